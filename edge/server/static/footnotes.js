// Footnotes of Markdown: `[^1]` in a text and `[^1]: …` below it. Each leads to the other; a reply that still grows may
// have a mark before it has the note.

import { h } from "./element.js";

const MARK = /^\[\^([^\]\s]{1,40})\]/;
const NOTE = /^\[\^([^\]\s]{1,40})\]:[ \t]*/;

export function footnoteRules(parser) {
  parser.inline.ruler.before("link", "footnote_mark", mark);
  parser.block.ruler.before("reference", "footnote", note, { alt: ["paragraph", "reference"] });
}

function mark(state, silent) {
  const found = state.src[state.pos] === "[" && MARK.exec(state.src.slice(state.pos, state.pos + 50));
  if (!found) return false;
  if (!silent) state.push("footnote_mark", "", 0).meta = { label: found[1] };
  state.pos += found[0].length;
  return true;
}

function note(state, first, end, silent) {
  const text = (line) => state.src.slice(state.bMarks[line] + state.tShift[line], state.eMarks[line]);
  const found = state.sCount[first] - state.blkIndent < 4 && NOTE.exec(text(first));
  if (!found) return false;
  if (silent) return true;
  let last = first + 1;
  while (last < end && !state.isEmpty(last) && state.sCount[last] >= state.blkIndent && !NOTE.test(text(last))) last++;
  const opening = state.push("footnote_open", "p", 1);
  opening.meta = { label: found[1] };
  opening.map = [first, last];
  const inline = state.push("inline", "", 0);
  inline.content = [text(first).slice(found[0].length), ...Array.from({ length: last - first - 1 }, (_, index) => text(first + 1 + index))].join("\n").trim();
  inline.map = [first, last];
  inline.children = [];
  state.push("footnote_close", "p", -1);
  state.line = last;
  return true;
}

/** The mark in the text, a button that leads to the note. */
export function footnoteMark(label) {
  return h("sup", {}, h("button", { type: "button", class: "footnote-mark", "data-footnote": label, "t-label": "footnote", values: { label } }, label));
}

/** The paragraph of a note, with a button that leads back to its mark. */
export function footnote(label) {
  return h(
    "p",
    { class: "footnote", "data-note": label },
    h("button", { type: "button", class: "footnote-mark", "data-back": label, "t-label": "footnoteBack", values: { label } }, label),
    " ",
  );
}

/** Follows a mark to its note, or a note back to its mark. */
export function followFootnote(button) {
  if (!button) return;
  const { footnote: to, back } = button.dataset;
  const name = CSS.escape(to ?? back);
  const target = button.closest(".turn").querySelector(to ? `[data-note="${name}"] button` : `[data-footnote="${name}"]`);
  target?.focus({ preventScroll: true });
  target?.scrollIntoView({ block: "nearest" });
}
