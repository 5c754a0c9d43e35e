/* The way from one line that looks like the failure to the next. The server finds them; of a long
   output only when it is asked, after the page is there. */
"use strict";

/* `choose(line)` brings a line into sight, wherever it is. */
const miniciFailures = (logElement, choose) => {
  const { make, say, key } = minici;
  const build = document.getElementById("build");
  const output = document.getElementById("output");
  const place = document.getElementById("failures");
  let lines = [], more = false, at = -1;

  const count = make("span", { role: "status" });
  const button = (text, name, step) => {
    const element = make("button", { type: "button", class: "tool", "aria-label": say(name), title: say(name) }, text);
    element.addEventListener("click", () => go(step));
    return element;
  };
  const buttons = [button("↑", "previous_failure", -1), button("↓", "next_failure", 1)];

  function show() {
    for (const line of lines) document.getElementById(`L${line}`)?.classList.add("failing");
    if (!lines.length) return;
    const values = { at: at + 1 || "–", n: `${lines.length}${more ? "+" : ""}` };
    count.textContent = say("failures", values);
    if (!count.isConnected) place.replaceChildren(count, ...buttons);
  }

  function go(step) {
    if (!lines.length) return;
    at = at < 0 && step < 0 ? lines.length - 1 : (at + step + lines.length) % lines.length;
    show();
    choose(lines[at]);
  }

  /* The page opens at the first one, unless its address says where, or the reader is elsewhere. */
  function open() {
    const query = new URLSearchParams(location.search);
    const told = location.hash || ["at", "to", "line", "find"].some((name) => query.has(name));
    if (told) return void (at = lines.indexOf(Number(/^#L([0-9]+)/.exec(location.hash)?.[1])));
    if (!lines.length || scrollY > 0) return;
    const first = document.getElementById(`L${lines[0]}`);
    if (!first) return choose(lines[at = 0]);
    at = 0;
    if (first.getBoundingClientRect().bottom > innerHeight) first.scrollIntoView({ block: "center" });
  }

  async function ask() {
    const address = `/build/${build.dataset.id}/failures?attempt=${build.dataset.attempt}`;
    const answer = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store" });
    if (answer.ok) ({ lines, more } = await answer.json());
  }

  /* What the page came with, or what the server finds now that the build has failed. */
  async function load() {
    if (build.dataset.status !== "failure") return;
    const known = output.dataset.failures;
    if (known !== undefined) lines = known.split(" ").filter(Boolean).map(Number);
    else if (!new URLSearchParams(location.search).has("attempt")) await ask();
  }

  key("f", "key_failure", () => go(1));
  const watched = build.dataset.final === undefined;
  const begin = async () => {
    await load();
    if (!watched) open();
    show();
  };
  if (!watched) begin();
  return { begin };
};
