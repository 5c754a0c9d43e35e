/* The lines of a failed build that the last success of the same project and command did not have.
   The server compares when it is asked; what it found is kept for the other parts of the output. */
"use strict";

/* `choose(line)` brings a line into sight, wherever it is; `settle()` is called when lines were
   hidden or shown. */
const miniciChanges = (logElement, choose, settle) => {
  const { make, say, key } = minici;
  const build = document.getElementById("build");
  const output = document.getElementById("output");
  const KEPT = "changes";
  let found = null; // { against, lines }, once it was asked for
  let asking = false;

  function label(at, n) {
    const values = { at: at + 1, n, id: found.against };
    if (found.against === null) return say("no_success");
    if (!n) return say("no_changes", values);
    if (at >= 0) return say("change", values);
    return n === 1 ? say("one_change", values) : say("changes", values);
  }

  const [back, on] = [say("previous_change"), say("next_change")];
  const way = miniciWay(logElement, { mark: "new", back, on, label, choose });
  const ask = make("button", { type: "button", class: "tool", title: say("what_is_new_title") }, say("what_is_new"));
  const only = make("button", { type: "button", class: "tool", "aria-pressed": "false" }, say("only_new"));
  const place = make("span", { class: "changes", id: "changes" }, way.count, ask);

  const isOnly = () => only.getAttribute("aria-pressed") === "true";
  const of = () => `${build.dataset.id}-${build.dataset.attempt}`;

  function keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ ...found, of: of(), only: isOnly() }));
    } catch { /* too much of it: another part of the output is asked for anew */ }
  }

  function kept() {
    try { return JSON.parse(sessionStorage.getItem(KEPT)); } catch { return null; }
  }

  function show() {
    const focused = document.activeElement === ask;
    way.show(found.lines);
    ask.remove();
    if (found.lines.length) place.append(...way.buttons, only);
    if (focused) way.buttons[1].focus();
  }

  function showOnly(wanted) {
    only.setAttribute("aria-pressed", String(wanted));
    logElement.classList.toggle("only-new", wanted);
    settle();
  }

  async function compare() {
    if (asking) return;
    asking = true;
    way.count.textContent = say("comparing");
    try {
      const answer = await fetch(`/api/builds/${build.dataset.id}/changes`, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      found = await answer.json();
      show();
      keep();
    } catch {
      way.count.textContent = say("not_compared");
    }
    asking = false;
  }

  ask.addEventListener("click", compare);
  only.addEventListener("click", () => {
    showOnly(!isOnly());
    keep();
  });
  key("d", "key_change", () => {
    if (found) way.go(1);
    else if (place.isConnected) compare();
  });

  /* For a build that has ended: offer it or, where this tab has asked before, show it. */
  function begin() {
    const attempt = new URLSearchParams(location.search).get("attempt") ?? build.dataset.attempt;
    if (place.isConnected || build.dataset.status !== "failure") return;
    if (attempt !== build.dataset.attempt || output.dataset.bare !== undefined) return;
    document.getElementById("failures").after(place);
    const before = kept();
    if (before?.of !== of()) return;
    found = before;
    show();
    if (before.only) showOnly(true);
  }

  return { begin };
};
