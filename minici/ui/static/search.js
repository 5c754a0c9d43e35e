/* Search in the output: at once in what the page holds and, where that is a part, by the server in
   all of it. */
"use strict";

const miniciSearch = (logElement) => {
  const { make, say, key } = minici;
  const output = document.getElementById("output");
  const form = document.getElementById("search");
  const field = form.elements.find;
  const count = make("span", { class: "matches", role: "status" });
  const button = (text, name, step) => {
    const element = make("button", { type: "button", class: "tool", "aria-label": say(name), title: say(name), hidden: true }, text);
    element.addEventListener("click", () => go(step));
    return element;
  };
  const buttons = [button("↑", "previous_match", -1), button("↓", "next_match", 1)];
  form.querySelector("button").remove();
  form.append(count, ...buttons);

  const MOST_SPOTS = 5000;
  let spots = []; // the ranges in what the page holds
  let at = -1; // which of them is looked at
  let whole = null; // { lines, more }: where the server found it, of a page that holds a part
  let searched = 0;
  let asking = null, renewing = null;

  const isPartial = () => output.dataset.partial !== undefined;
  const lineOf = (spot) => spot.startContainer.parentElement.closest(".line");
  const numberOf = (line) => Number(line.id.slice(1));

  function rangesIn(element, wanted) {
    const text = element.textContent;
    const lower = text.toLowerCase();
    if (!lower.includes(wanted) || lower.length !== text.length) return [];
    const found = [], nodes = [], walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let start = 0; walker.nextNode(); start += walker.currentNode.length) nodes.push([start, walker.currentNode]);
    const edge = (offset) => nodes.filter(([start]) => start <= offset).pop();
    for (let i = lower.indexOf(wanted); i >= 0 && found.length < 100; i = lower.indexOf(wanted, i + wanted.length)) {
      const spot = new Range();
      const [from, to] = [edge(i), edge(i + wanted.length - 1)];
      spot.setStart(from[1], i - from[0]);
      spot.setEnd(to[1], i + wanted.length - to[0]);
      found.push(spot);
    }
    return found;
  }

  function find() {
    const wanted = field.value.toLowerCase();
    const current = spots[at];
    spots = [];
    searched = logElement.children.length;
    if (wanted) {
      for (const line of logElement.children) {
        if (spots.length < MOST_SPOTS) spots.push(...rangesIn(line.querySelector(".text"), wanted));
      }
    }
    const same = (spot) => spot.startContainer === current.startContainer && spot.startOffset === current.startOffset;
    at = current ? spots.findIndex(same) : -1;
    paint();
  }

  function label() {
    if (!field.value) return "";
    if (isPartial() && !whole) return say("searching", { n: spots.length });
    if (!whole) return spots.length ? say("matches", { at: at + 1, n: spots.length }) : say("no_matches");
    if (whole.failed) return say("searched_part", { n: spots.length });
    if (!whole.lines.length) return say("no_matches");
    const values = { at: whole.lines.indexOf(here()) + 1 || "–", n: whole.lines.length };
    return whole.more ? say("matching_lines_more", values) : say("matching_lines", values);
  }

  function paint() {
    const some = whole && !whole.failed ? whole.lines.length : spots.length;
    for (const element of buttons) element.hidden = !some;
    const text = label();
    if (count.textContent !== text) count.textContent = text;
    if (!window.Highlight || !CSS.highlights) return;
    CSS.highlights.set("found", new Highlight(...spots));
    CSS.highlights.set("current", new Highlight(...(spots[at] ? [spots[at]] : [])));
  }

  /* The number of the line that is looked at: of the match or, before one is chosen, of the address. */
  function here() {
    if (spots[at]) return numberOf(lineOf(spots[at]));
    return Number(/^#L([0-9]+)/.exec(location.hash)?.[1] ?? 0);
  }

  function look(index) {
    at = index;
    paint();
    const line = lineOf(spots[at]);
    const { top, bottom } = line.getBoundingClientRect();
    if (top < 90 || bottom > innerHeight) line.scrollIntoView({ block: "center" });
  }

  function go(step) {
    const next = at + step;
    if (spots[next] && (at >= 0 || step > 0)) return look(next);
    if (whole && !whole.failed) return goInWhole(step);
    if (spots.length) look((next + spots.length) % spots.length);
  }

  /* Where the page ends, the next line that holds it is on another one. */
  function goInWhole(step) {
    const { lines } = whole;
    if (!lines.length) return;
    const now = here();
    const following = step > 0 ? lines.find((n) => n > now) ?? lines[0] : lines.filter((n) => n < now).pop() ?? lines[lines.length - 1];
    const inPage = spots.findIndex((spot) => numberOf(lineOf(spot)) === following);
    if (inPage >= 0) return look(inPage);
    const address = new URL(location.href);
    address.searchParams.delete("at");
    address.searchParams.delete("to");
    address.searchParams.set("line", following);
    address.searchParams.set("find", field.value);
    address.hash = `L${following}`;
    location.assign(address);
  }

  async function ask() {
    asking?.abort();
    const mine = (asking = new AbortController());
    const wanted = field.value;
    if (!wanted || !isPartial()) return;
    const address = new URL(`${form.getAttribute("action")}/find`, location.href);
    address.searchParams.set("text", wanted);
    if (form.elements.attempt) address.searchParams.set("attempt", form.elements.attempt.value);
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store", signal: mine.signal });
      whole = answer.ok ? await answer.json() : { lines: [], failed: true };
    } catch {
      if (mine.signal.aborted) return;
      whole = { lines: [], failed: true };
    }
    paint();
  }

  let typing = null;
  field.addEventListener("input", () => {
    at = -1;
    whole = null;
    asking?.abort();
    find();
    if (spots.length) go(1);
    clearTimeout(typing);
    typing = setTimeout(ask, 250);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      go(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      field.value = "";
      field.dispatchEvent(new Event("input"));
      field.blur();
    }
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  key("/", "key_search", () => {
    field.focus();
    field.select();
  });

  if (field.value) {
    find();
    const line = document.getElementById(location.hash.slice(1));
    const index = spots.findIndex((spot) => lineOf(spot) === line);
    if (index >= 0) look(index);
    ask();
  }

  return {
    /* There are other lines than before. */
    refresh() {
      if (!field.value || renewing) return;
      renewing = setTimeout(() => {
        renewing = null;
        if (searched !== logElement.children.length || isPartial()) find();
        if (isPartial()) ask();
      }, isPartial() ? 3000 : 500);
    },
  };
};
