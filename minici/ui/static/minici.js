/* What every page does better with JavaScript; without it all of it still works. */
"use strict";

const minici = (() => {
  const body = document.body;
  const texts = JSON.parse(body.dataset.texts);
  const skew = Date.parse(body.dataset.now) - Date.now();
  const now = () => Date.now() + skew;

  const say = (key, values = {}) =>
    texts[key].replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /* Times: the reader's own zone, with UTC beside it. */

  const two = (number) => String(number).padStart(2, "0");

  function duration(seconds) {
    const s = Math.max(0, seconds);
    if (s < 60) return `${Math.floor(s)}\u00a0${texts.second}`;
    const whole = Math.floor(s);
    const pair = (large, unit, small, smaller) => `${large}\u00a0${unit} ${two(small)}\u00a0${smaller}`;
    if (s < 3600) return pair(Math.floor(whole / 60), texts.minute, whole % 60, texts.second);
    if (s < 86400) return pair(Math.floor(whole / 3600), texts.hour, Math.floor(whole / 60) % 60, texts.minute);
    return pair(Math.floor(whole / 86400), texts.day, Math.floor(whole / 3600) % 24, texts.hour);
  }

  function size(count) {
    const units = texts.units.split(" ");
    if (count < 1024) return `${count}\u00a0${units[0]}`;
    let [value, unit] = [count / 1024, 1];
    for (; value >= 1023.95 && unit < units.length - 1; unit++) value /= 1024;
    const digits = { minimumFractionDigits: 1, maximumFractionDigits: 1, useGrouping: false };
    return `${value.toLocaleString(document.documentElement.lang, digits)}\u00a0${units[unit]}`;
  }

  function localTime(time) {
    const options = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
    return new Intl.DateTimeFormat(document.documentElement.lang, options).format(time);
  }

  function showZones(root = document) {
    for (const element of root.querySelectorAll("time[data-zone]:not([data-shown]), time[data-age]:not([data-shown])")) {
      const time = new Date(element.dateTime);
      element.dataset.shown = "";
      if (Number.isNaN(time.getTime()) || !time.getTimezoneOffset()) continue;
      const utc = element.dataset.zone === undefined ? element.title : element.textContent;
      const beside = utc.replace(/^.*, /, "");
      const sameDay = time.getDate() === time.getUTCDate();
      element.title = `${localTime(time)} (${utc})`;
      if (element.dataset.zone !== undefined) {
        element.replaceChildren(localTime(time), make("small", { class: "utc" }, sameDay ? beside : utc));
      }
    }
  }

  function tick() {
    for (const element of document.querySelectorAll("[data-since]")) {
      element.textContent = duration((now() - Date.parse(element.dataset.since)) / 1000);
    }
    for (const bar of document.querySelectorAll("progress[data-began]")) {
      bar.value = Math.min(bar.max, (now() - Date.parse(bar.dataset.began)) / 1000);
    }
  }

  /* Changing a part of the page into its newer version: what is the same stays the same
     element, so that focus, selection, scroll and running animations are left alone. */

  function morph(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      morphAttributes(old, fresh);
      morphChildren(old, fresh);
    } else if (old.nodeValue !== fresh.nodeValue) {
      old.nodeValue = fresh.nodeValue;
    }
  }

  function morphAttributes(old, fresh) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  }

  function morphChildren(old, fresh) {
    const named = new Map();
    for (const child of old.children) if (child.id) named.set(child.id, child);
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = child.id ? named.get(child.id) : null;
      if (same) {
        if (same !== place) old.insertBefore(same, place);
        else place = place.nextSibling;
        morph(same, child);
      } else if (place && !(place.id && [...fresh.children].some((c) => c.id === place.id)) && place.nodeName === child.nodeName && !child.id) {
        const next = place.nextSibling;
        morph(place, child);
        place = next;
      } else {
        old.insertBefore(document.importNode(child, true), place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  async function fetchPage(address = "") {
    const answer = await fetch(address || location.pathname + location.search, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  }

  /* Take over the parts that `selector` chooses, and the tab's title and icon. */
  function adopt(page, selector) {
    document.title = page.title;
    const icon = document.getElementById("icon"), newer = page.getElementById("icon");
    if (newer && icon.getAttribute("href") !== newer.getAttribute("href")) icon.setAttribute("href", newer.getAttribute("href"));
    for (const part of document.querySelectorAll(selector)) {
      const fresh = part.id && page.getElementById(part.id);
      if (fresh) {
        showZones(fresh);
        addCopyButtons(fresh);
        morph(part, fresh);
      }
    }
    tick();
  }

  /* One line at the foot of the window, for what the reader should know about the connection. */
  const notice = make("p", { class: "notice", role: "status", hidden: true });
  body.append(notice);
  function announce(key) {
    notice.hidden = !key;
    const text = key ? say(key) : "";
    if (notice.textContent !== text) notice.textContent = text;
  }

  /* A line that only screen readers are told: which builds of the list have changed. */
  const spoken = make("p", { class: "hidden", role: "status" });
  body.append(spoken);
  const statuses = () => new Map([...document.querySelectorAll(".builds tbody tr")].map((row) =>
    [row.querySelector(".c-id a").title, row.querySelector(".word").textContent]));

  function speakOfChanges(before) {
    const changed = [...statuses()].filter(([build, status]) => before.has(build) && before.get(build) !== status);
    if (changed.length) spoken.textContent = changed.map((each) => each.join(": ")).join(". ");
  }

  /* Seconds, or until the reader comes back to this tab. */
  const pause = (seconds) => new Promise((done) => {
    const over = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", over);
      done();
    };
    document.addEventListener("visibilitychange", over);
    setTimeout(() => { document.removeEventListener("visibilitychange", over); done(); }, seconds * 1000);
  });

  /* A tab in the background goes on more slowly: its title and icon are still looked at. A page
     that is long in coming is asked for less often. */
  async function keepFresh(section, seconds) {
    let wait = seconds;
    for (;;) {
      await pause(document.hidden ? Math.max(wait, 10) : wait);
      try {
        const begun = performance.now(), before = statuses();
        adopt(await fetchPage(section.dataset.refresh), "[data-refresh]");
        speakOfChanges(before);
        announce(null);
        wait = Math.max(seconds, (performance.now() - begun) / 100);
      } catch {
        announce("offline");
        wait = Math.min(wait * 1.5, 20);
      }
    }
  }

  /* Copying */

  function addCopyButtons(root = document) {
    for (const block of root.querySelectorAll("[data-copy]:not([data-ready])")) {
      block.dataset.ready = "";
      const button = make("button", { type: "button", class: "copy" }, say("copy"));
      block.append(button);
    }
  }

  async function copy(button) {
    const text = button.parentElement.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { class: "hidden" });
      area.value = text;
      body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = say("copied");
    setTimeout(() => { button.textContent = say("copy"); }, 1600);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) copy(button);
  });

  /* Keys */

  const keys = [];
  const key = (pressed, text, act, pages = null) => {
    if (!pages || pages.includes(body.dataset.page)) keys.push({ pressed, text, act });
  };
  const follow = (selector) => {
    const link = document.querySelector(selector);
    if (link) link.click();
  };

  let chosen = null;
  function choose(step) {
    const rows = [...document.querySelectorAll(".builds tbody tr")];
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.id === chosen);
    const row = rows[Math.min(rows.length - 1, Math.max(0, at + step))];
    chosen = row.id;
    row.querySelector(".c-id a").focus();
  }

  const help = make("dialog", { class: "help", "aria-labelledby": "help-title" });
  function showHelp() {
    if (help.open) return help.close();
    const list = make("dl");
    for (const { pressed, text } of keys) {
      list.append(make("div", {}, make("dt", {}, make("kbd", {}, pressed)), make("dd", {}, say(text))));
    }
    const close = make("form", { method: "dialog" }, make("button", {}, say("close")));
    help.replaceChildren(make("h2", { id: "help-title" }, say("keys")), list, close);
    if (!help.isConnected) body.append(help);
    help.showModal();
  }

  key("?", "key_help", showHelp);
  key("j", "key_down", () => choose(1), ["index"]);
  key("k", "key_up", () => choose(-1), ["index"]);
  key("/", "key_find", () => document.querySelector(".text-filter input")?.focus(), ["index"]);
  key("n", "key_new", () => document.getElementById("command").focus(), ["index"]);
  key("h", "key_list", () => follow('.top nav a[href="/"]'));
  key("a", "key_agents", () => follow('.top nav a[href="/agents"]'));
  key("[", "key_first_page", () => follow('a[rel="prev"]'), ["index"]);
  key("]", "key_next_page", () => follow('a[rel="next"]'), ["index"]);
  key("[", "key_older", () => follow('a[rel="prev"]'), ["build"]);
  key("]", "key_newer", () => follow('a[rel="next"]'), ["build"]);
  key("g", "key_top", () => scrollTo({ top: 0 }), ["build"]);

  /* On a keyboard of another script the key counts that stands at the same place. */
  const PLACES = { BracketLeft: "[", BracketRight: "]", Slash: "/" };
  function pressedKey({ key, code, shiftKey }) {
    if (code === "Slash" && ".,".includes(key)) return key === "." ? "/" : "?"; // as in Russian
    if (/^[\x20-\x7e]$/.test(key) || key.length > 1) return key;
    const letter = code.replace(/^Key/, "");
    return PLACES[code] || (shiftKey ? letter : letter.toLowerCase());
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const pressed = pressedKey(event);
    if (help.open && pressed !== "?") return;
    const found = keys.find((each) => each.pressed === pressed);
    if (!found) return;
    event.preventDefault();
    found.act();
  });

  const filter = document.querySelector(".chip[aria-current]");
  if (filter) filter.parentElement.scrollLeft = filter.offsetLeft - filter.parentElement.offsetLeft - 16;

  const opener = make("button", { type: "button", class: "keys" }, say("keys"), " ", make("kbd", { "aria-hidden": "true" }, "?"));
  opener.addEventListener("click", showHelp);
  document.querySelector(".foot")?.append(opener);

  // The form: a project brings its command along, and the last one that was typed in this browser.
  function startForm() {
    const command = document.getElementById("command"), project = document.getElementById("project");
    const form = command && command.form;
    if (!form) return;
    const kept = (name) => "command " + name;
    const chosen = () => (project ? project.value : "");
    const given = new URLSearchParams(location.search).has("command") || document.querySelector(".form-error");
    const own = () => (project ? project.selectedOptions[0].dataset.command : given ? null : command.defaultValue);
    const offered = () => {
      try { return localStorage.getItem(kept(chosen())) || own(); } catch { return own(); }
    };
    form.addEventListener("submit", () => {
      try {
        if (command.value === own()) localStorage.removeItem(kept(chosen()));
        else localStorage.setItem(kept(chosen()), command.value);
      } catch { /* it is not kept */ }
    });
    if (project) project.addEventListener("change", () => { command.value = offered(); });
    if (!given && location.pathname === "/") command.value = offered();
    const fit = () => { command.rows = Math.min(12, command.value.split("\n").length); };
    form.addEventListener("input", fit);
    form.addEventListener("change", fit);
    fit();
  }

  startForm();
  showZones();
  addCopyButtons();
  tick();
  setInterval(tick, 1000);
  const refreshed = document.querySelector("[data-refresh]");
  if (refreshed) keepFresh(refreshed, 2.5);

  return { texts, say, make, key, announce, adopt, fetchPage, now, size };
})();
