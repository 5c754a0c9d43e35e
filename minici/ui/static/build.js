/* The page of one build: live output, its state, links to lines. */
"use strict";

(() => {
  const build = document.getElementById("build");
  const output = document.getElementById("output");
  const logElement = document.getElementById("log");
  if (!build || !output || !logElement) return;

  const { make, say, key, announce, adopt, fetchPage, size } = minici;
  const MOST_LINES = 20000;
  const SPARE_LINES = 2000;
  const MOST_CHECKOUT_LINES = 500;
  const HIDDEN_SECONDS = 10;
  const api = `/api/builds/${build.dataset.id}`;
  const end = document.getElementById("log-end");
  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
  const isOver = () => build.dataset.final !== undefined;
  const isFinal = (record) => !["queued", "running"].includes(record.status);
  const shownAttempt = () => Number(build.dataset.attempt);

  /* Following the end, only while the reader is there. */

  const atEnd = () => end.getBoundingClientRect().bottom <= innerHeight + 48;
  const selecting = () => {
    const selection = getSelection();
    return selection && !selection.isCollapsed && logElement.contains(selection.anchorNode);
  };
  const toEnd = () => end.scrollIntoView({ block: "end" });
  const followButton = make("button", { type: "button", class: "tool follow", "aria-pressed": "false", hidden: true }, say("follow"));
  followButton.addEventListener("click", () => (mode === "full" ? goOn() : toEnd()));
  document.getElementById("output-tools").append(followButton);
  const showFollowing = () => followButton.setAttribute("aria-pressed", String(atEnd()));
  addEventListener("scroll", showFollowing, { passive: true });
  key("e", "key_end", () => followButton.click());

  /* Live output. Pieces are gathered and shown once a frame. */

  const log = new miniciLog.Log(logElement);
  const checkout = document.getElementById("checkout");
  const checkoutLog = new miniciLog.Log(document.getElementById("checkout-log"));
  const search = miniciSearch(logElement);
  let mode = "waiting"; // then "live", "lost", "resting", "polling" or "full"
  let waiting = false;

  /* A page holds so many lines and no more: who follows the end loses the beginning, and for
     who reads elsewhere the output stops coming until they want to go on. */
  function show() {
    waiting = false;
    const following = atEnd() && !selecting();
    const full = log.size > MOST_LINES + SPARE_LINES;
    checkoutLog.show(MOST_CHECKOUT_LINES);
    checkoutLog.trim(MOST_CHECKOUT_LINES);
    log.show(following ? MOST_LINES : MOST_LINES + SPARE_LINES - logElement.children.length, following);
    output.querySelector(".log-empty")?.remove();
    if (full && following) {
      log.trim(MOST_LINES);
      showTrimmed();
    } else if (full) stopListening();
    if (following) toEnd();
    if (!stop?.isConnected) makeOneStop();
    showFollowing();
    showSize();
    search.refresh();
  }

  function showSoon() {
    if (waiting) return;
    waiting = true;
    if (document.hidden) setTimeout(show, 250);
    else requestAnimationFrame(show);
  }

  function showTrimmed() {
    output.dataset.partial = "";
    if (!output.querySelector(".trimmed")) logElement.before(make("p", { class: "log-note trimmed" }, say("trimmed")));
  }

  /* What git prints stands open until the command has begun; then it is folded, once. */
  function writePiece(piece) {
    if (piece.stream === "checkout") {
      checkout.hidden = false;
      checkoutLog.write(piece);
    } else {
      foldCheckout();
      log.write(piece);
    }
    showSoon();
  }

  let folded = !checkout.open;
  function foldCheckout() {
    if (!folded) checkout.open = false;
    folded = true;
  }

  /* A place is ATTEMPT-STDOUT-STDERR-CHECKOUT, the bytes of each stream that have been seen. */
  function showSize() {
    const [, stdout, stderr] = (place ?? "").split("-").map(Number);
    if (stderr !== undefined) document.getElementById("output-size").textContent = size(stdout + stderr);
  }

  /* The rest of the page follows the record: whenever it has changed, the parts around the log
     are fetched anew, without the log. */

  const shape = (record) => JSON.stringify([record.status, record.attempt, record.cancel_requested, record.agent, record.revision]);
  let known = build.dataset.shape;
  let failures = null; // of a build that is watched, until it has ended

  async function refresh(more = "log=no") {
    const address = new URL(location.href);
    if (more) address.search += (address.search ? "&" : "?") + more;
    const page = await fetchPage(address.pathname + address.search);
    const fresh = page.getElementById("build");
    for (const name of ["class", "data-status", "data-final"]) {
      if (fresh.hasAttribute(name)) build.setAttribute(name, fresh.getAttribute(name));
    }
    const freshOutput = page.getElementById("output");
    for (const name of ["hidden", "data-bare"]) output.toggleAttribute(name, freshOutput.hasAttribute(name));
    adopt(page, "[data-swap]");
    if (!page.getElementById("checkout").open) foldCheckout();
    showState();
    return page;
  }

  function showState() {
    followButton.hidden = isOver();
    if (!isOver()) return;
    announce(null);
    failures?.begin();
    failures = null;
    changes.begin();
  }

  async function follow(record) {
    if (shape(record) === known) return;
    known = shape(record);
    turnTo(record.attempt);
    const following = atEnd();
    await refresh();
    if (following && isFinal(record)) toEnd();
  }

  /* The output is another attempt's from now on, and begins anew. */
  function turnTo(attempt) {
    if (attempt === shownAttempt()) return;
    build.dataset.attempt = attempt;
    place = `${attempt}-0-0-0`;
    log.clear();
    checkoutLog.clear();
    checkout.hidden = checkout.open = true;
    folded = false;
    for (const note of output.querySelectorAll(".part, .trimmed, .dropped")) note.remove();
    delete output.dataset.partial;
    showSoon();
  }

  /* Asking for the record, while nothing tells of its changes. */
  async function watch() {
    let wait = 2;
    while (!isOver()) {
      await pause(wait);
      try {
        if (mode === "live" && build.dataset.status === "queued") await refresh();
        if (mode === "live") continue;
        const answer = await fetch(api, { headers: { Accept: "application/json" }, cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        await follow(await answer.json());
        if (mode !== "lost") announce(["polling", "full"].includes(mode) ? mode : null);
        wait = document.hidden ? 5 : 2;
      } catch {
        announce("reconnecting");
        wait = Math.min(wait * 1.5, 15);
      }
    }
    showState();
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

  const trouble = () => announce("reconnecting");

  function listen(attempt = 0) {
    const address = new URL(output.dataset.live, location.href);
    address.searchParams.set("changes", "1");
    if (place !== null) address.searchParams.set("place", place);
    const mine = (source = new EventSource(address));
    let opened = false;
    const on = (kind, act) => mine.addEventListener(kind, (event) => {
      if (mine === source && !ended) act(event);
    });
    on("open", () => {
      opened = true;
      mode = "live";
      announce(null);
    });
    on("build", (event) => follow(JSON.parse(event.data)).catch(trouble));
    on("output", (event) => {
      turnTo(parseInt(event.lastEventId, 10));
      place = event.lastEventId;
      writePiece(JSON.parse(event.data));
    });
    on("status", (event) => {
      ended = true;
      mine.close();
      follow(JSON.parse(event.data)).catch(trouble);
    });
    on("error", () => {
      if (mode === "full" || mode === "resting") return;
      mode = "lost";
      announce("reconnecting");
      if (mine.readyState !== EventSource.CLOSED) return;
      if (!opened && attempt >= 3) return poll();
      setTimeout(() => mine === source && listen(opened ? 0 : attempt + 1), 1000 * (attempt + 1));
    });
  }

  /* A browser has six connections to a host: a tab that nobody looks at gives its own away. */
  let leaving = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (ended || !source) return;
    if (!document.hidden && mode === "resting") listen();
    if (document.hidden && ["live", "lost"].includes(mode)) {
      leaving = setTimeout(() => {
        if (mode !== "live" && mode !== "lost") return;
        mode = "resting";
        source.close();
      }, HIDDEN_SECONDS * 1000);
    }
  });

  function showCheckout(fresh) {
    checkout.hidden = fresh.hidden;
    document.getElementById("checkout-log").replaceChildren(...fresh.querySelector(".log").childNodes);
  }

  /* Without live output: the whole page again every three seconds, and say so. */
  async function poll() {
    mode = "polling";
    announce("polling");
    while (!isOver()) {
      await pause(3);
      if (document.hidden) continue;
      try {
        const following = atEnd();
        const page = await refresh("");
        const fresh = page.getElementById("log");
        showCheckout(page.getElementById("checkout"));
        if (fresh.children.length !== logElement.children.length || fresh.lastElementChild && !fresh.lastElementChild.isEqualNode(logElement.lastElementChild)) {
          logElement.replaceChildren(...fresh.childNodes);
          miniciLog.addRules(logElement);
          makeOneStop();
          search.refresh();
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
    if (!scroll) return;
    const first = document.getElementById(`L${lines[0]}`);
    if (first) first.scrollIntoView({ block: "center" });
    else if (output.dataset.partial !== undefined) open(lines[0]);
  }

  /* A line that is on another part of the output. */
  function open(line) {
    const address = new URL(location.href);
    if (address.searchParams.get("line") === String(line)) return;
    address.searchParams.delete("at");
    address.searchParams.delete("to");
    address.searchParams.set("line", line);
    location.replace(address);
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

  function choose(line) {
    history.replaceState(null, "", `#L${line}`);
    mark(true);
  }

  const watchedFailures = miniciFailures(logElement, choose);
  if (!isOver()) failures = watchedFailures;
  const changes = miniciChanges(logElement, choose, () => {
    makeOneStop();
    mark(true);
  });

  /* Thousands of line numbers are one stop of the tab key; the arrows lead from one to another. */

  let stop = null;
  const isShown = (element) => element?.getClientRects().length > 0;
  function stopAt(link) {
    if (stop) stop.tabIndex = -1;
    stop = link;
    if (link) link.tabIndex = 0;
  }

  function makeOneStop() {
    for (const link of logElement.querySelectorAll("a.n:not([tabindex])")) link.tabIndex = -1;
    if (!isShown(stop)) stopAt(logElement.querySelector(".chosen a.n") ?? [...logElement.querySelectorAll("a.n")].find(isShown));
  }

  logElement.addEventListener("keydown", (event) => {
    const line = event.target.closest("a.n")?.parentElement;
    const side = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    let beside = line?.[side];
    while (beside && !isShown(beside)) beside = beside[side];
    if (!beside) return;
    event.preventDefault();
    stopAt(beside.querySelector("a.n"));
    stop.focus();
  });

  key("↑↓", "key_lines", () => {}); // named in the help; what they do is above

  /* What one does to a build */

  const press = (verb) => document.querySelector(`.actions form[action$="/${verb}"] button`)?.click();
  key("C", "key_cancel", () => press("cancel"));
  key("R", "key_rebuild", () => press("rebuild"));

  if (isOver()) changes.begin();
  mark(true);
  makeOneStop();
  if (location.hash === "#log-end") toEnd();
  if (!isOver()) {
    followButton.hidden = false;
    showFollowing();
    if (output.dataset.live) listen();
    watch();
  }
})();
