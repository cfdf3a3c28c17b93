// What a reply cites: the passages of documents by [1], those of a tool's results by 【7†source】. Each becomes a button
// that shows the passage and its place.

import { h } from "./element.js";

const CITED = /【(\d{1,6})†[^】\n]{0,100}】|\[(\d{1,6})\]/g;

/** The passages that a conversation has, by number; the latest of a number counts. */
export class Citations {
  constructor(before = null) {
    this.documents = new Map(before?.documents);
    this.results = new Map(before?.results);
  }

  /** Adds those of an event of a reply. */
  take({ name, data }) {
    const found = { documents: this.documents, tool_result: this.results }[name];
    for (const citation of (found && data.citations) ?? []) if (citation.number) found.set(citation.number, citation);
  }

  /** Returns the passage that a number in brackets refers to, or undefined. */
  find(number, ofTool) {
    const [first, second] = ofTool ? [this.results, this.documents] : [this.documents, this.results];
    return first.get(number) ?? second.get(number);
  }
}

/** Returns the nodes of a text, with a button for each passage that it cites. */
export function citing(text, citations) {
  const made = [];
  let end = 0;
  for (const match of citations ? text.matchAll(CITED) : []) {
    const number = Number(match[1] ?? match[2]);
    const citation = citations.find(number, match[1] !== undefined);
    if (!citation) continue;
    made.push(text.slice(end, match.index), mark(number, citation));
    end = match.index + match[0].length;
  }
  return [...made, text.slice(end)].filter((part) => part !== "");
}

function mark(number, citation) {
  const name = placeOf(citation);
  return h("button", { type: "button", class: "cite", "t-label": "cited", values: { number, name }, on: { click: (event) => show(citation, event.currentTarget) } }, String(number));
}

export function placeOf({ document, place }) {
  return place ? `${document}, ${place}` : document;
}

let box = null;

/** Shows a passage beside its button. */
function show(citation, button) {
  box ??= h("div", { class: "cited", popover: "auto", role: "dialog", tabindex: "-1" });
  box.setAttribute("aria-label", placeOf(citation));
  box.replaceChildren(h("p", { class: "cited-place" }, placeOf(citation)), h("pre", { tabindex: "0" }, citation.text));
  document.body.append(box);
  box.showPopover();
  const { top, bottom, left } = button.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const below = bottom + 8 + height <= innerHeight || top < height + 16;
  box.style.left = `${Math.max(8, Math.min(left - 16, innerWidth - width - 8))}px`;
  box.style.top = `${Math.max(8, below ? Math.min(bottom + 8, innerHeight - height - 8) : top - height - 8)}px`;
  box.focus();
}
