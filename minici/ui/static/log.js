/* From what a command wrote to lines on the page: the same as minici/ui/ansi.py, for output
   that arrives while one looks at it. */
"use strict";

const miniciLog = (() => {
  const TOKEN = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ\\`-~]|(\r*\n|\r)|([^\x1b\r\n]+|\x1b)/g;
  const UNFINISHED = /(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?|\r+)$/;
  const URL_PATTERN = /https?:\/\/[^\s<>"'`\x00-\x1f\x7f-\x9f\u200b-\u206f\ufeff]+/g;
  const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
  const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
  const OFF = { 21: ["bold"], 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"] };
  const LEVELS = [0, 95, 135, 175, 215, 255];
  const LONGEST_SEQUENCE = 4096;
  const LONGEST_LINE = 100000;

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
      this.returned = false;
    }

    write(classes, text) {
      if (this.returned) {
        this.spans = [];
        this.length = 0;
        this.returned = false;
      }
      const part = text.slice(0, Math.max(0, LONGEST_LINE - this.length));
      this.length += part.length;
      const last = this.spans[this.spans.length - 1];
      if (last && last[0] === classes) last[1] += part;
      else this.spans.push([classes, part]);
    }

    show() {
      const { make, say } = minici;
      const content = make("span", { class: "text" });
      for (const [classes, text] of this.spans) {
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
      this.streams = { stdout: { pen: new Pen(), line: null, carry: "" }, stderr: { pen: new Pen(), line: null, carry: "" } };
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
      for (const [name, { line, text }] of Object.entries(open)) {
        const stream = this.streams[name];
        const element = line === null ? null : document.getElementById(`${this.prefix}${line}`);
        if (line !== null && !element) stream.continued = line;
        if (element) stream.line = new Line(this.prefix, line, name, 0, element);
        if (element) this.feed(stream, name, 0, text);
        else stream.carry = text;
      }
    }

    write({ stream: name, seconds, text }) {
      const known = name === "stderr" ? "stderr" : "stdout";
      this.feed(this.streams[known], known, seconds, text);
    }

    feed(stream, name, seconds, added) {
      const text = stream.carry + added;
      const unfinished = UNFINISHED.exec(text);
      stream.carry = unfinished && unfinished[0].length <= LONGEST_SEQUENCE ? unfinished[0] : "";
      const end = text.length - (unfinished ? unfinished[0].length : 0);
      for (const match of text.slice(0, end).matchAll(TOKEN)) this.token(stream, name, seconds, match);
    }

    token(stream, name, seconds, [, parameters, final, end, plain]) {
      if (final === "m") stream.pen.apply(parameters);
      if (!end && !plain) return;
      const line = (stream.line ??= this.newLine(stream, name, seconds));
      if (end && end.includes("\n")) stream.line = null;
      else if (end) line.returned = true;
      else line.write(stream.pen.classes(), plain);
      if (line.element) this.changed.add(line);
    }

    newLine(stream, name, seconds) {
      const line = new Line(this.prefix, stream.continued ?? this.next++, name, seconds);
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
