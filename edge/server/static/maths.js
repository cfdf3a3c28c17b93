// Formulas: where they are in a text, and how they are drawn. KaTeX draws them; it is loaded with the first one. What
// it cannot draw stays as it was written. It makes no links and loads nothing.

import { h } from "./element.js";

const MOST = 2000; // characters of a formula within a line
const LONG = 40; // characters of a formula that may not fit a narrow page
const KEPT = 300; // formulas whose drawing is kept, for the last block of a reply is built anew with every piece
const INLINE = /^(\\\([\s\S]+?\\\)|\\\[[\s\S]+?\\\]|\$\$[\s\S]+?\$\$)/;
const OPEN = /^(\\\(|\\\[|\$\$)[^$]*$/;
// Between single dollars no blanks at the ends, and neither Latin letters nor digits around: "$5 and $6" are prices.
const DOLLARS = /^\$((?:[^\s$\\]|\\.)(?:(?:[^$\\\n]|\\.)*(?:[^\s$\\]|\\.))?)\$(?![A-Za-z0-9$])/;
const WORDS = /^[\d.,]+\s+\p{L}{2}|[　-鿿＀-￯]/u; // "$5 million and 6$": an amount
const COMMAND = /\\[A-Za-z]|[=^_]/;
const DISPLAY = { "\\[": "\\]", $$: "$$" };
const OPTIONS = { output: "htmlAndMathml", throwOnError: true, strict: "ignore", trust: false, maxSize: 20, maxExpand: 300 };
const FORBIDDEN = "a, img, script, iframe, object, [href], [src], [style*='url(']";

let katex = null;
let loading = null;
const drawings = new Map();

/** Adds the rules to a parser. An environment whose `growing` is true has a text that still grows: a formula without an
 * end is then shown as it is written, and no other rule touches it. */
export function mathsRules(parser) {
  parser.inline.ruler.before("escape", "maths", inline);
  parser.block.ruler.before("fence", "maths", block, { alt: ["paragraph", "reference", "blockquote", "list"] });
}

function inline(state, silent) {
  const first = state.src[state.pos];
  if (first !== "\\" && first !== "$") return false;
  const rest = state.src.slice(state.pos, state.pos + MOST);
  const found = INLINE.exec(rest)?.[0] ?? dollars(state, rest) ?? (state.env.growing ? OPEN.exec(rest)?.[0] : null);
  if (!found) return false;
  if (!silent) state.push("maths", "", 0).content = found;
  state.pos += found.length;
  return true;
}

function dollars(state, rest) {
  if (rest[0] !== "$" || /[A-Za-z0-9$]/.test(state.src[state.pos - 1] ?? "")) return null;
  const found = DOLLARS.exec(rest);
  return found && (COMMAND.test(found[1]) || !WORDS.test(found[1])) ? found[0] : null;
}

/** A formula on lines of its own, without empty ones: its minus signs begin no lists. */
function block(state, first, end, silent) {
  const text = (line) => state.src.slice(state.bMarks[line] + state.tShift[line], state.eMarks[line]);
  const close = DISPLAY[text(first).slice(0, 2)];
  if (!close || state.sCount[first] - state.blkIndent >= 4) return false;
  let line = first;
  for (; line < end; line++) {
    if (line > first && (state.isEmpty(line) || state.sCount[line] < state.blkIndent)) return false;
    const at = text(line).indexOf(close, line === first ? 2 : 0);
    if (at < 0) continue;
    if (text(line).slice(at + 2).trim()) return false;
    break;
  }
  if (line === end && !(state.env.growing && end === state.lineMax)) return false;
  if (silent) return true;
  state.line = Math.min(line + 1, end);
  const token = state.push("maths", "", 0);
  token.content = state.getLines(first, state.line, state.blkIndent, false).trim();
  token.map = [first, state.line];
  token.block = true;
  return true;
}

/** Returns the element of a formula; `drawn` is called if it is drawn later. */
export function formula(source, drawn = () => {}) {
  const element = h("span", { class: "maths" }, source);
  const close = { "\\(": "\\)", $: "$", ...DISPLAY };
  const open = source.startsWith("$$") || source[0] === "\\" ? source.slice(0, 2) : "$";
  const inner = source.slice(open.length, -open.length).trim();
  if (!source.endsWith(close[open]) || source.length < 2 * open.length || !inner) return element; // it still grows
  if (katex) draw(element, source, inner, open in DISPLAY);
  else
    load().then(
      () => (draw(element, source, inner, open in DISPLAY), drawn()),
      () => {}, // it stays as it was written
    );
  return element;
}

function draw(element, source, inner, displayMode) {
  if (!drawings.has(source)) {
    if (drawings.size >= KEPT) drawings.delete(drawings.keys().next().value);
    drawings.set(source, drawing(inner, displayMode));
  }
  const made = drawings.get(source);
  if (!made) return;
  element.replaceChildren(made.cloneNode(true));
  element.classList.add("drawn");
  if (source.length > LONG) element.classList.add("long");
  if (displayMode || source.length > LONG) element.setAttribute("tabindex", "0"); // a wide one is scrolled
}

function drawing(inner, displayMode) {
  const target = document.createElement("span");
  try {
    katex.render(inner, target, { ...OPTIONS, displayMode });
  } catch {
    return null;
  }
  return target.querySelector(FORBIDDEN) ? null : target.firstChild;
}

function load() {
  loading ??= import("./vendor/katex/katex.js").then(() => {
    const style = h("link", { rel: "stylesheet", href: "static/vendor/katex/katex.css" });
    const ready = new Promise((resolve, reject) => {
      style.addEventListener("load", resolve);
      style.addEventListener("error", reject);
    });
    document.head.append(style);
    return ready.then(() => (katex = globalThis.katex));
  });
  return loading;
}
