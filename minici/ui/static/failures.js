/* The way from one line that looks like the failure to the next. The server finds them; of a long
   output only when it is asked, after the page is there. */
"use strict";

/* `choose(line)` brings a line into sight, wherever it is. */
const miniciFailures = (logElement, choose) => {
  const { say, key } = minici;
  const build = document.getElementById("build");
  const output = document.getElementById("output");
  const place = document.getElementById("failures");
  let lines = [], more = false;

  const label = (at, n) => say("failures", { at: at + 1 || "–", n: `${n}${more ? "+" : ""}` });
  const [back, on] = [say("previous_failure"), say("next_failure")];
  const way = miniciWay(logElement, { mark: "failing", back, on, label, choose });

  /* The page opens at the first one, unless its address says where, or the reader is elsewhere. */
  function open() {
    const query = new URLSearchParams(location.search);
    const told = location.hash || ["at", "to", "line", "find"].some((name) => query.has(name));
    if (told) return undefined;
    if (scrollY > 0) return -1;
    const first = document.getElementById(`L${lines[0]}`);
    if (!first) choose(lines[0]);
    else if (first.getBoundingClientRect().bottom > innerHeight) first.scrollIntoView({ block: "center" });
    return 0;
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

  key("f", "key_failure", () => way.go(1));
  const watched = build.dataset.final === undefined;
  const begin = async () => {
    await load();
    if (!lines.length) return;
    way.show(lines, watched ? -1 : open());
    place.replaceChildren(way.count, ...way.buttons);
  };
  if (!watched) begin();
  return { begin };
};
