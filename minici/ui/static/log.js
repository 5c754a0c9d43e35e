/* From what a command wrote to lines on the page: the same as minici/ui/ansi.py, for output
   that arrives while one looks at it. */
"use strict";

const miniciLog = (() => {
  const TOKEN = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ\\`-~]|(\r*\n|\r|\x08)|([^\x1b\r\n\x08]+|\x1b)/g;
  const UNFINISHED = /(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?|\r+)$/;
  const URL_PATTERN = /https?:\/\/[^\s<>"'`\x00-\x1f\x7f-\x9f\u200b-\u206f\ufeff]+/g;
  const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
  const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
  const OFF = { 21: ["bold"], 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"] };
  const LEVELS = [0, 95, 135, 175, 215, 255];
  const LONGEST_SEQUENCE = 4096;
  const LONGEST_LINE = 100000;
  const MOST_ROWS = 200;
  const MOST_COLUMNS = 1000;
  const MOST_SPANS = 500;

  const visible = (text) =>
    text.replace(UNSAFE, (sign) => `<U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}>`);

  function nearest(red, green, blue) {
    const level = (value) => LEVELS.reduce((best, l, i) => (Math.abs(l - value) < Math.abs(LEVELS[best] - value) ? i : best), 0);
    const cube = [level(red), level(green), level(blue)];
    const grey = Math.min(23, Math.max(0, Math.round(((red + green + blue) / 3 - 8) / 10)));
    const distance = (r, g, b) => (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
    const shade = 8 + 10 * grey;
    if (distance(shade, shade, shade) < distance(...cube.map((i) => LEVELS[i]))) return 232 + grey;
    return 16 + 36 * cube[0] + 6 * cube[1] + cube[2];
  }

  /* A colour is its number in the palette, or EXACT and its red, green and blue. Those have a
     class that names them, and a rule for it once it is used: pages have no inline style. */
  const EXACT = 1 << 24;
  const MOST_RULES = 4096;
  const GROUND = [0x17, 0x1a, 0x21];
  const rules = new Set();
  const sheet = [...document.styleSheets].find(({ href }) => href?.includes("/palette.css"));

  const channels = (colour) => [(colour >> 16) & 255, (colour >> 8) & 255, colour & 255];
  const hex = (parts) => parts.map((part) => part.toString(16).padStart(2, "0")).join("");

  function colourClasses(side, colour) {
    if (colour < EXACT) return [`${side}${colour}`];
    const name = `${side}x${hex(channels(colour))}`;
    addRule(name);
    return [`${side}${nearest(...channels(colour))}`, name];
  }

  function luminance(parts) {
    const [red, green, blue] = parts.map((part) => part / 255).map((p) => (p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  /* Made lighter until it can be read on the log's ground, as in minici/ui/palette.py. */
  function legible(parts) {
    const ground = luminance(GROUND) + 0.05;
    let shown = parts;
    while ((luminance(shown) + 0.05) / ground < 4.5) shown = shown.map((p) => p + Math.floor((255 - p + 9) / 10));
    return shown;
  }

  function addRule(name) {
    if (rules.has(name) || rules.size >= MOST_RULES || !sheet) return;
    rules.add(name);
    const exact = name.slice(2);
    if (name[0] === "b") return void sheet.insertRule(`.log .${name}{background:#${exact}}`, sheet.cssRules.length);
    sheet.insertRule(`.log .${name}{color:#${hex(legible(channels(parseInt(exact, 16))))}}`, sheet.cssRules.length);
    sheet.insertRule(`.log .on.${name}{color:#${exact}}`, sheet.cssRules.length);
  }

  /* The rules for what the page came with. */
  function addRules(element) {
    for (const { classList } of element.querySelectorAll('[class*="fx"], [class*="bx"]')) {
      for (const name of classList) if (/^[fb]x[0-9a-f]{6}$/.test(name)) addRule(name);
    }
  }

  class Pen {
    front = null;
    back = null;
    weights = new Set();

    apply(parameters) {
      const codes = parameters.slice(0, 200).split(/[;:]/).map((part) => (/^[0-9]+$/.test(part) ? Number(part) : 0));
      while (codes.length) {
        const code = codes.shift();
        if (code === 38 || code === 48) this.set(code === 38, this.extended(codes));
        else this.simple(code);
      }
    }

    extended(codes) {
      const kind = codes.length ? codes.shift() : 0;
      if (kind === 5 && codes.length) return Math.min(codes.shift(), 255);
      if (kind === 2 && codes.length >= 3) return codes.splice(0, 3).reduce((colour, c) => (colour << 8) | Math.min(c, 255), 0) + EXACT;
      codes.length = 0;
      return null;
    }

    simple(code) {
      if (code === 0) {
        this.front = this.back = null;
        this.weights.clear();
      } else if (ON[code]) this.weights.add(ON[code]);
      else if (OFF[code]) OFF[code].forEach((weight) => this.weights.delete(weight));
      else if (code === 39 || code === 49) this.set(code === 39, null);
      else if ((code >= 30 && code <= 37) || (code >= 40 && code <= 47)) this.set(code < 40, code % 10);
      else if ((code >= 90 && code <= 97) || (code >= 100 && code <= 107)) this.set(code < 100, (code % 10) + 8);
    }

    set(front, colour) {
      if (front) this.front = colour;
      else this.back = colour;
    }

    classes() {
      let { front, back } = this;
      const names = [...this.weights].filter((weight) => weight !== "inverse").sort();
      if (this.weights.has("inverse")) [front, back] = [back ?? 0, front ?? 7];
      if (front !== null) names.push(...colourClasses("f", front));
      if (back !== null) names.push("on", ...colourClasses("b", back));
      return names.join(" ");
    }
  }

  function clock(seconds) {
    const tenths = Math.floor(Math.max(0, seconds) * 10 + 1e-6);
    const rest = `${Math.floor((tenths % 600) / 10)}.${tenths % 10}`;
    const minutes = Math.floor(tenths / 600);
    if (!minutes) return rest;
    const two = (text) => text.padStart(2, "0");
    const hours = Math.floor(minutes / 60);
    return hours ? `${hours}:${two(String(minutes % 60))}:${rest.padStart(4, "0")}` : `${minutes}:${rest.padStart(4, "0")}`;
  }

  function appendLinked(parent, text) {
    let place = 0;
    for (const match of text.matchAll(URL_PATTERN)) {
      const url = match[0].replace(/[.,;:!?)\]}]+$/, "");
      parent.append(visible(text.slice(place, match.index)));
      parent.append(minici.make("a", { href: url, rel: "noreferrer nofollow noopener" }, url));
      place = match.index + url.length;
    }
    if (place < text.length) parent.append(visible(text.slice(place)));
  }

  /* Columns are characters, not halves of them. */
  const isWide = (text) => /[\ud800-\udfff]/.test(text);
  const width = (text) => (isWide(text) ? [...text].length : text.length);
  const cut = (text, from, to) => (isWide(text) ? [...text].slice(from, to).join("") : text.slice(from, to));
  const widthOf = (spans) => spans.reduce((sum, [, text]) => sum + width(text), 0);

  function split(spans, column) {
    for (const [index, [classes, text]] of spans.entries()) {
      const length = width(text);
      if (column < length) {
        const before = column ? [[classes, cut(text, 0, column)]] : [];
        return [[...spans.slice(0, index), ...before], [[classes, cut(text, column)], ...spans.slice(index + 1)]];
      }
      column -= length;
    }
    return [[...spans], []];
  }

  class Line {
    /* `element` is there already for a line that the page came with. */
    constructor(prefix, number, name, seconds, element = null) {
      this.prefix = prefix;
      this.number = number;
      this.name = name;
      this.seconds = seconds;
      this.element = element;
      this.spans = [];
      this.length = 0;
    }

    /* A line that is on the page, as it stands there. */
    static of(element, prefix, name) {
      const line = new Line(prefix, Number(element.id.slice(1)), name, 0, element);
      for (const node of element.querySelector(".text").childNodes) {
        line.spans.push([node.nodeName === "SPAN" ? node.className : "", node.textContent]);
      }
      return line;
    }

    write(column, classes, text) {
      if (column !== null && this.spans.length > MOST_SPANS) this.spans = [];
      if (column === null) return this.append(classes, text);
      const [before, rest] = split(this.spans, column);
      const gap = column - widthOf(before);
      if (gap > 0) before.push(["", " ".repeat(gap)]);
      this.spans = [...before, [classes, text], ...split(rest, width(text))[1]];
    }

    append(classes, text) {
      const part = text.slice(0, Math.max(0, LONGEST_LINE - this.length));
      this.length += part.length;
      const last = this.spans[this.spans.length - 1];
      if (last && last[0] === classes) last[1] += part;
      else this.spans.push([classes, part]);
    }

    erase(column, kind) {
      if (kind === "1" && column !== null) this.spans = [["", " ".repeat(column + 1)], ...split(this.spans, column + 1)[1]];
      else if (kind === "1" || kind === "2") this.spans = [];
      else if (column !== null) this.spans = split(this.spans, column)[0];
    }

    /* Neighbours of the same look as one. */
    get merged() {
      const merged = [];
      for (const [classes, text] of this.spans) {
        const last = merged[merged.length - 1];
        if (last && last[0] === classes) last[1] += text;
        else merged.push([classes, text]);
      }
      return merged;
    }

    show() {
      const { make, say } = minici;
      const content = make("span", { class: "text" });
      for (const [classes, text] of this.merged) {
        if (!text) continue;
        const parent = classes ? make("span", { class: classes }) : content;
        appendLinked(parent, text);
        if (classes) content.append(parent);
      }
      if (this.element) return this.element.querySelector(".text").replaceWith(content);
      const { prefix, number } = this;
      this.element = make("div", { class: `line ${this.name}`, id: `${prefix}${number}` }, content);
      if (prefix !== "L") return; // lines of a checkout have no links
      const link = make("a", { class: "n", href: `#L${number}`, title: say("line", { n: number }), tabindex: "-1" }, String(number));
      const at = make("span", { class: "at" }, clock(this.seconds));
      this.element.prepend(link, at);
    }
  }

  /* A stream as a terminal shows it: its last lines, and the cursor among them. At row
     `rows.length` the next line begins; a column of null is the end of the row. */
  class Stream {
    pen = new Pen();
    look = "";
    rows = [];
    row = 0;
    column = null;
    begun = false; // whether the line of output that comes has its number already
    carry = "";

    constructor(name) {
      this.name = name;
    }

    get line() {
      return this.rows[this.row] ?? null;
    }

    get place() {
      if (this.column !== null) return this.column;
      return this.line ? widthOf(this.line.spans) : 0;
    }

    forget() {
      if (this.rows.length <= 2 * MOST_ROWS) return;
      this.rows.splice(0, MOST_ROWS);
      this.row -= MOST_ROWS;
    }
  }

  class Log {
    /* `element` is #log or #checkout-log, with the lines that are there already. */
    constructor(element) {
      this.element = element;
      this.prefix = element.dataset.prefix || "L";
      addRules(element);
      this.begin(Number(element.dataset.next));
      this.takeUp(JSON.parse(element.dataset.open || "{}"));
    }

    begin(next) {
      this.streams = { stdout: new Stream("stdout"), stderr: new Stream("stderr") };
      this.changed = new Set(); // lines that look different on the page
      this.fresh = []; // lines that are not on the page yet
      this.next = next;
    }

    /* Another attempt begins with an empty log. */
    clear() {
      this.element.replaceChildren();
      this.begin(1);
    }

    /* Go on with the lines that were open when the page was made. One that began before the
       part on the page is not there yet, and comes before all others once it goes on. */
    takeUp(open) {
      for (const [name, { line, begun, text }] of Object.entries(open)) {
        const stream = this.streams[name];
        const element = line ? document.getElementById(`${this.prefix}${line}`) : null;
        if (element) stream.rows = [new Line(this.prefix, line, name, 0, element)];
        else if (line === 0) stream.rows = [new Line(this.prefix, 0, name, 0)];
        else if (line !== null) stream.continued = line;
        stream.begun = true;
        this.feed(stream, 0, text);
        stream.begun = begun;
      }
    }

    write({ stream: name, seconds, text }) {
      this.feed(this.streams[name === "stderr" ? "stderr" : "stdout"], seconds, text);
    }

    feed(stream, seconds, added) {
      const text = stream.carry + added;
      const unfinished = UNFINISHED.exec(text);
      stream.carry = unfinished && unfinished[0].length <= LONGEST_SEQUENCE ? unfinished[0] : "";
      const end = text.length - (unfinished ? unfinished[0].length : 0);
      for (const match of text.slice(0, end).matchAll(TOKEN)) this.token(stream, seconds, match);
    }

    token(stream, seconds, [, parameters, final, end, plain]) {
      if (plain) {
        const line = this.beginLine(stream, seconds);
        line.write(stream.column, stream.look, plain);
        if (stream.column !== null) stream.column += width(plain);
        this.touch(line);
      } else if (end === "\b") stream.column = Math.max(0, stream.place - 1);
      else if (end === "\r") stream.column = 0;
      else if (end) this.endLine(stream, seconds);
      else if (final === "m") {
        stream.pen.apply(parameters);
        stream.look = stream.pen.classes();
      } else if (final) {
        if (stream.continued !== undefined && "ABEF".includes(final)) this.beginLine(stream, seconds);
        this.move(stream, parameters, final);
      }
    }

    move(stream, parameters, final) {
      const count = /^[0-9]{1,5}$/.test(parameters) ? Math.max(1, Number(parameters)) : 1;
      const column = stream.place;
      if (final === "A" || final === "F") this.goTo(stream, stream.row - Math.min(count, MOST_ROWS), final === "F" ? 0 : column);
      else if (final === "B" || final === "E") this.goTo(stream, stream.row + count, final === "E" ? 0 : column);
      else if (final === "C") stream.column = column + Math.min(count, MOST_COLUMNS);
      else if (final === "D") stream.column = Math.max(0, column - count);
      else if (final === "G") stream.column = Math.min(count - 1, MOST_COLUMNS);
      else if (stream.line && (final === "K" || (final === "J" && ["", "0"].includes(parameters)))) {
        stream.line.erase(stream.column, parameters);
        this.touch(stream.line);
        if (final === "K") return;
        for (const below of stream.rows.slice(stream.row + 1)) {
          below.spans = [];
          this.touch(below);
        }
      }
    }

    goTo(stream, row, column) {
      const missing = Math.min(Math.max(0, -row), MOST_ROWS);
      for (let i = 0; i < missing; i++) stream.rows.unshift(this.above(stream));
      stream.row = Math.min(Math.max(0, row), stream.rows.length);
      stream.column = column;
    }

    /* The line of the stream above those that are known: one that the page came with, or none. */
    above({ rows: [first], name }) {
      let element = first ? first.element?.previousElementSibling : this.element.lastElementChild;
      if (first?.number && !first.element) element = this.element.lastElementChild;
      while (element && !element.classList.contains(name) && this.prefix === "L") element = element.previousElementSibling;
      return element ? Line.of(element, this.prefix, name) : new Line(this.prefix, 0, name, 0);
    }

    touch(line) {
      if (line.element) this.changed.add(line);
    }

    endLine(stream, seconds) {
      this.beginLine(stream, seconds);
      this.goTo(stream, stream.row + 1, 0);
      if (!stream.line) stream.column = null;
      stream.begun = false;
      stream.forget();
    }

    /* Each line of output takes a number, also one that is written over others. */
    beginLine(stream, seconds) {
      if (!stream.line) stream.rows.push(this.newLine(stream, seconds));
      else if (!stream.begun) this.next += 1;
      stream.begun = true;
      return stream.line;
    }

    newLine(stream, seconds) {
      const line = new Line(this.prefix, stream.continued ?? this.next++, stream.name, seconds);
      line.continued = stream.continued !== undefined;
      stream.continued = undefined;
      this.fresh.push(line);
      return line;
    }

    get size() {
      return this.element.children.length + this.fresh.length;
    }

    /* Bring to the page what was written since the last time: of the new lines at most `most`,
       the last or the first of them. */
    show(most = Infinity, last = true) {
      const shown = last ? this.fresh.slice(Math.max(0, this.fresh.length - most)) : this.fresh.slice(0, Math.max(0, most));
      for (const line of [...this.changed, ...shown]) line.show();
      this.element.append(...shown.filter((line) => !line.continued).map((line) => line.element));
      for (const line of shown) if (line.continued) this.putBefore(line);
      this.changed.clear();
      this.fresh = [];
    }

    putBefore({ number, element }) {
      const behind = [...this.element.children].find((other) => Number(other.id.slice(1)) > number);
      this.element.insertBefore(element, behind ?? null);
    }

    /* Keep the last `most` lines on the page. */
    trim(most) {
      const range = new Range();
      const surplus = this.element.children.length - most;
      if (surplus <= 0) return;
      range.setStartBefore(this.element.firstElementChild);
      range.setEndBefore(this.element.children[surplus]);
      range.deleteContents();
    }
  }

  return { Log, clock, visible, addRules };
})();
