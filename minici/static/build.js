/* The page of one build: live output, links to lines, search. */
"use strict";

(() => {
  const build = document.getElementById("build");
  const output = document.getElementById("output");
  const logElement = document.getElementById("log");
  if (!build || !output || !logElement) return;

  const { make, say, key, announce, adopt, fetchPage } = minici;
  const MOST_LINES = 20000;
  const SPARE_LINES = 2000;
  const api = `/api/builds/${build.dataset.id}`;
  const end = document.getElementById("log-end");
  const tools = document.getElementById("output-tools");
  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

  /* Following the end, only while the reader is there. */

  const atEnd = () => end.getBoundingClientRect().bottom <= innerHeight + 48;
  const selecting = () => {
    const selection = getSelection();
    return selection && !selection.isCollapsed && logElement.contains(selection.anchorNode);
  };
  const toEnd = () => end.scrollIntoView({ block: "end" });
  const followButton = make("button", { type: "button", class: "tool follow", "aria-pressed": "false", hidden: true }, say("follow"));
  followButton.addEventListener("click", () => (mode === "full" ? goOn() : toEnd()));
  tools.append(followButton);
  const showFollowing = () => followButton.setAttribute("aria-pressed", String(atEnd()));
  addEventListener("scroll", showFollowing, { passive: true });
  key("e", "key_end", () => followButton.click());

  /* Live output. Pieces are gathered and shown once a frame. */

  const log = new miniciLog.Log(logElement);
  let mode = "waiting"; // then "live", "lost", "polling" or "full"
  let waiting = false;

  /* A page holds so many lines and no more: who follows the end loses the beginning, and for
     who reads elsewhere the output stops coming until they want to go on. */
  function show() {
    waiting = false;
    const following = atEnd() && !selecting();
    const full = log.size > MOST_LINES + SPARE_LINES;
    log.show(following ? MOST_LINES : MOST_LINES + SPARE_LINES - logElement.children.length, following);
    output.querySelector(".log-empty")?.remove();
    if (full && following) {
      log.trim(MOST_LINES);
      showTrimmed();
    } else if (full) stopListening();
    if (following) toEnd();
    showFollowing();
    search.refresh();
  }

  function showSoon() {
    if (waiting) return;
    waiting = true;
    if (document.hidden) setTimeout(show, 250);
    else requestAnimationFrame(show);
  }

  function showTrimmed() {
    if (!output.querySelector(".trimmed")) logElement.before(make("p", { class: "log-note trimmed" }, say("trimmed")));
  }

  /* The rest of the page follows the record: whenever it has changed, the parts around the
     log are fetched anew; another attempt, or a build that has begun, is a page of its own. */

  const shape = (record) => JSON.stringify([record.status, record.attempt, record.cancel_requested, record.agent, record.revision]);
  const isFinal = (record) => !["queued", "running"].includes(record.status);
  let known = null;

  function showState() {
    const final = build.dataset.final !== undefined;
    followButton.hidden = final;
    if (final) announce(null);
  }

  async function refresh() {
    const page = await fetchPage();
    const fresh = page.getElementById("build");
    for (const name of ["class", "data-status", "data-final"]) {
      if (fresh.hasAttribute(name)) build.setAttribute(name, fresh.getAttribute(name));
    }
    adopt(page, "[data-swap]");
    showState();
    return page;
  }

  async function follow(record) {
    if (known && shape(record) === known.shape) return;
    const begun = known && (known.attempt !== record.attempt || known.status === "queued") && !isFinal(record);
    const jumped = known && known.status === "queued" && isFinal(record) && record.started_at;
    known = { shape: shape(record), attempt: record.attempt, status: record.status };
    if (begun || jumped || shownAttempt() !== record.attempt && isFinal(record) && record.started_at) return renew();
    const following = atEnd();
    await refresh();
    if (following && isFinal(record)) toEnd();
  }

  const shownAttempt = () => Number(build.dataset.attempt);

  async function watch() {
    known = { shape: build.dataset.shape, attempt: shownAttempt(), status: build.dataset.status };
    let wait = 2;
    while (build.dataset.final === undefined) {
      await pause(wait);
      if (document.hidden && build.dataset.status === "queued") continue;
      try {
        const answer = await fetch(api, { headers: { Accept: "application/json" }, cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        await follow(await answer.json());
        if (build.dataset.status === "queued") await refresh();
        if (mode !== "lost") announce(["polling", "full"].includes(mode) ? mode : null);
        wait = 2;
      } catch {
        announce("reconnecting");
        wait = Math.min(wait * 1.5, 15);
      }
    }
    showState();
  }

  /* A place begins with the number of its attempt. */
  const ofAnotherAttempt = (name) => /^[0-9]+-/.test(name ?? "") && parseInt(name, 10) !== shownAttempt();

  let renewing = false;
  function renew() {
    if (!renewing) location.reload();
    renewing = true;
  }

  let place = null;
  let ended = false;
  let source = null;

  function stopListening() {
    source?.close();
    mode = "full";
    announce("full");
  }

  /* The page anew, at its end. */
  function goOn() {
    history.scrollRestoration = "manual";
    history.replaceState(null, "", "#log-end");
    location.reload();
  }

  function listen(attempt = 0) {
    const address = new URL(output.dataset.live, location.href);
    if (place !== null) address.searchParams.set("place", place);
    source = new EventSource(address);
    let opened = false;
    source.addEventListener("open", () => {
      opened = true;
      mode = "live";
      announce(null);
    });
    source.addEventListener("output", (event) => {
      if (event.lastEventId) place = event.lastEventId;
      if (ofAnotherAttempt(place)) return renew();
      log.write(JSON.parse(event.data));
      showSoon();
    });
    source.addEventListener("status", (event) => {
      ended = true;
      source.close();
      follow(JSON.parse(event.data)).catch(() => {});
    });
    source.addEventListener("error", () => {
      if (ended || mode === "full") return;
      mode = "lost";
      announce("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      if (!opened && attempt >= 3) return poll();
      setTimeout(() => listen(opened ? 0 : attempt + 1), 1000 * (attempt + 1));
    });
  }

  /* Without live output: the whole page again every three seconds, and say so. */
  async function poll() {
    mode = "polling";
    announce("polling");
    while (build.dataset.final === undefined) {
      await pause(3);
      if (document.hidden) continue;
      try {
        const page = await refresh();
        const following = atEnd();
        const fresh = page.getElementById("log");
        if (fresh.children.length !== logElement.children.length || fresh.lastElementChild && !fresh.lastElementChild.isEqualNode(logElement.lastElementChild)) {
          logElement.replaceChildren(...fresh.childNodes);
          if (following) toEnd();
        }
      } catch {
        /* watch() says that the server is away */
      }
    }
  }

  /* Lines are links; with shift, a range: #L10-L20. */

  function range() {
    const match = /^#L([0-9]+)(?:-L?([0-9]+))?$/.exec(location.hash);
    if (!match) return null;
    const [one, other] = [Number(match[1]), Number(match[2] ?? match[1])];
    return [Math.min(one, other), Math.max(one, other)];
  }

  function mark(scroll) {
    for (const line of logElement.querySelectorAll(".chosen")) line.classList.remove("chosen");
    const lines = range();
    if (!lines) return;
    for (let n = lines[0]; n <= Math.min(lines[1], lines[0] + 5000); n++) {
      document.getElementById(`L${n}`)?.classList.add("chosen");
    }
    if (scroll) document.getElementById(`L${lines[0]}`)?.scrollIntoView({ block: "center" });
  }

  logElement.addEventListener("click", (event) => {
    const link = event.target.closest("a.n");
    if (!link) return;
    event.preventDefault();
    const number = Number(link.textContent);
    const lines = range();
    const hash = event.shiftKey && lines ? `#L${Math.min(lines[0], number)}-L${Math.max(lines[0], number)}` : `#L${number}`;
    history.replaceState(null, "", hash);
    getSelection()?.removeAllRanges();
    mark(false);
  });
  addEventListener("hashchange", () => mark(true));

  /* Search */

  const search = (() => {
    const field = make("input", { type: "search", class: "tool", placeholder: say("search"), "aria-label": say("search"), autocomplete: "off", spellcheck: "false" });
    const count = make("span", { class: "matches", role: "status" });
    const button = (text, name, step) => {
      const element = make("button", { type: "button", class: "tool", "aria-label": say(name), title: say(name), hidden: true }, text);
      element.addEventListener("click", () => go(step));
      return element;
    };
    const buttons = [button("↑", "previous_match", -1), button("↓", "next_match", 1)];
    tools.prepend(field, count, ...buttons);
    let matches = [], at = -1, timer = null, searched = 0;

    function ranges(element, wanted) {
      const text = element.textContent;
      if (!text.toLowerCase().includes(wanted)) return [];
      const found = [], walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
      const nodes = [];
      for (let start = 0; walker.nextNode(); start += walker.currentNode.length) nodes.push([start, walker.currentNode]);
      const lower = text.toLowerCase();
      if (lower.length !== text.length) return found;
      for (let i = lower.indexOf(wanted); i >= 0 && found.length < 100; i = lower.indexOf(wanted, i + wanted.length)) {
        const spot = new Range();
        const edge = (offset) => nodes.filter(([start]) => start <= offset).pop();
        const [from, to] = [edge(i), edge(i + wanted.length - 1)];
        spot.setStart(from[1], i - from[0]);
        spot.setEnd(to[1], i + wanted.length - to[0]);
        found.push(spot);
      }
      return found;
    }

    function find() {
      const wanted = field.value.toLowerCase();
      matches = [];
      searched = logElement.children.length;
      if (wanted) {
        for (const line of logElement.children) {
          if (matches.length < 5000) matches.push(...ranges(line.querySelector(".text"), wanted));
        }
      }
      at = Math.min(at, matches.length - 1);
      paint();
    }

    function paint() {
      const wanted = field.value;
      buttons.forEach((element) => { element.hidden = matches.length < 2; });
      count.textContent = !wanted ? "" : matches.length ? say("matches", { at: at + 1, n: matches.length }) : say("no_matches");
      if (!window.Highlight || !CSS.highlights) return;
      CSS.highlights.set("found", new Highlight(...matches));
      CSS.highlights.set("current", new Highlight(...(matches[at] ? [matches[at]] : [])));
    }

    function go(step) {
      if (!matches.length) return;
      at = (at + step + matches.length) % matches.length;
      paint();
      const line = matches[at].startContainer.parentElement.closest(".line");
      const { top, bottom } = line.getBoundingClientRect();
      if (top < 90 || bottom > innerHeight) line.scrollIntoView({ block: "center" });
    }

    field.addEventListener("input", () => {
      at = -1;
      find();
      go(1);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        go(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape") {
        field.value = "";
        find();
        field.blur();
      }
    });
    key("/", "key_search", () => field.focus());
    return {
      refresh() {
        if (!field.value || timer) return;
        timer = setTimeout(() => {
          timer = null;
          if (searched !== logElement.children.length) find();
        }, 500);
      },
    };
  })();

  mark(true);
  if (location.hash === "#log-end") toEnd();
  if (build.dataset.final === undefined) {
    followButton.hidden = false;
    showFollowing();
    if (output.dataset.live) listen();
    watch();
  }
})();
