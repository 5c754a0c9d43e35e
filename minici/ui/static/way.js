/* The way from one of some lines of the output to the next: a count and two buttons. */
"use strict";

/* The lines are marked with the class `mark`; `back` and `on` name the buttons. `label(at, n)` says
   which of how many is looked at (-1: none yet), and `choose(line)` brings a line into sight,
   wherever it is. */
const miniciWay = (logElement, { mark, back, on, label, choose }) => {
  const { make } = minici;
  let lines = [], at = -1;

  const count = make("span", { role: "status" });
  const button = (text, name, step) => {
    const element = make("button", { type: "button", class: "tool", "aria-label": name, title: name }, text);
    element.addEventListener("click", () => go(step));
    return element;
  };
  const buttons = [button("↑", back, -1), button("↓", on, 1)];
  const numberOf = (line) => Number(line?.id.slice(1));

  function paint() {
    const [first, last] = [logElement.firstElementChild, logElement.lastElementChild].map(numberOf);
    for (const line of lines) {
      if (line >= first && line <= last) document.getElementById(`L${line}`)?.classList.add(mark);
    }
    count.textContent = label(at, lines.length);
  }

  function go(step) {
    if (!lines.length) return;
    at = at < 0 && step < 0 ? lines.length - 1 : (at + step + lines.length) % lines.length;
    paint();
    choose(lines[at]);
  }

  /* The lines from now on. Where one is: at the line of the address, unless it is said. */
  function show(found, start = found.indexOf(Number(/^#L([0-9]+)/.exec(location.hash)?.[1]))) {
    [lines, at] = [found, start];
    paint();
  }

  return { count, buttons, go, show };
};
