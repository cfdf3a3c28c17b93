// Documents beside a question: chosen, dropped or pasted, read by the server, and kept with the message in the browser.

import { placeOf } from "./citations.js";
import { h, icon, iconButton } from "./element.js";
import { Refusal, readDocument } from "./stream.js";

/** The documents that go with the next message. */
export class Attachments {
  /** `changed()` is called when a document comes or goes, `failed(name, refusal)` when one cannot be read. */
  constructor(suffixes, { changed, failed }) {
    this.actions = { changed, failed };
    this.waiting = []; // {chip, document, abort}; document is null while the server reads it
    this.list = h("ul", { class: "documents", "t-label": "documents", hidden: true });
    this.button = this.picker = null;
    if (!suffixes.length) return;
    this.picker = h("input", { type: "file", multiple: true, hidden: true, accept: suffixes.join(","), "t-label": "addDocument" });
    this.picker.addEventListener("change", () => (this.add(this.picker.files), (this.picker.value = "")));
    this.button = iconButton("clip", "addDocument", () => this.picker.click(), { class: "icon-button clip" });
  }

  /** Whether the server still reads a document. */
  get reading() {
    return this.waiting.some(({ document }) => document === null);
  }

  add(files) {
    for (const file of files) this.read(file);
  }

  async read(file) {
    const one = { document: null, abort: new AbortController() };
    one.chip = h(
      "li",
      { class: "chip reading" },
      icon("page"),
      h("span", { class: "name" }, file.name),
      iconButton("close", "removeDocument", () => this.drop(one), { values: { name: file.name } }),
    );
    this.waiting.push(one);
    this.drawn();
    try {
      one.document = await readDocument(file, one.abort.signal);
      one.chip.classList.remove("reading");
      one.chip.title = one.document.notes.join("\n");
      this.drawn();
    } catch (error) {
      if (one.abort.signal.aborted) return;
      this.drop(one);
      this.actions.failed(file.name, error instanceof Refusal ? error : new Refusal("errorBroken"));
    }
  }

  drop(one) {
    one.abort.abort();
    this.waiting = this.waiting.filter((other) => other !== one);
    this.drawn();
  }

  /** Returns the documents for a message, and forgets them. */
  take() {
    const taken = this.waiting.map(({ document }) => ({ name: document.name, sections: document.sections }));
    this.waiting = [];
    this.drawn();
    return taken;
  }

  drawn() {
    this.list.replaceChildren(...this.waiting.map(({ chip }) => chip));
    this.list.hidden = !this.waiting.length;
    this.actions.changed();
  }
}

/** The names of a message's documents, for its turn. */
export function documentNames(documents) {
  return h(
    "ul",
    { class: "documents", "t-label": "documents" },
    ...documents.map(({ name }) => h("li", { class: "chip" }, icon("page"), h("span", { class: "name" }, name))),
  );
}

/** What a reply was given of its documents: each passage opens at its place. */
export function sourceList({ citations, whole, notes }) {
  return h(
    "details",
    { class: "call sources" },
    h("summary", {}, icon("page"), h("span", { class: "name", t: citations.length ? "passages" : "readWhole", values: { count: citations.length } })),
    h(
      "div",
      { class: "inside" },
      ...whole.map((name) => h("p", {}, h("span", { t: "wholeDocument", values: { name } }))),
      ...notes.map((note) => h("p", { class: "hint" }, note)),
      ...citations.map(({ document, place, text, number }) =>
        h("details", { class: "passage" }, h("summary", {}, `[${number}] ${placeOf({ document, place })}`), h("pre", { tabindex: "0" }, text)),
      ),
    ),
  );
}

/** Returns stored documents if they are valid; throws otherwise. */
export function checkDocuments(documents) {
  const text = (part) => {
    if (typeof part !== "string") throw new TypeError("no text");
    return part;
  };
  return documents.map(({ name, sections }) => ({
    name: text(name),
    sections: sections.map(({ place, text: words, unit, first }) => ({
      place: text(place),
      text: text(words),
      unit: text(unit ?? ""),
      first: Number.isInteger(first) && first > 0 ? first : 1,
    })),
  }));
}

/** Returns a stored citation: its texts and its number. */
export function checkCitation({ document, place, text, number }) {
  return { document: String(document), place: String(place), text: String(text), number: Number(number) };
}

/** Returns the stored sources of a reply if they are valid; throws otherwise. */
export function checkSources({ citations, whole, notes }) {
  return {
    citations: citations.map(checkCitation),
    whole: whole.map(String),
    notes: notes.map(String),
  };
}
