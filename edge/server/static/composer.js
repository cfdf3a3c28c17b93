// The field for a message, and the button that sends it or stops the reply.

import { Attachments } from "./documents.js";
import { h, icon, iconButton } from "./element.js";
import { Pictures } from "./pictures.js";
import { label } from "./words.js";

const SIZED = CSS.supports("field-sizing", "content"); // then the style makes the field as tall as its text

export class Composer {
  /** `suffixes` are those of documents that the server reads; without any, none can be added. `microphone` is a button, if there is one. */
  constructor(root, { send, stop, trouble, typed = () => {}, failed = () => {} }, suffixes = [], microphone = null) {
    this.actions = { send, stop, typed };
    this.pictures = new Pictures({ trouble, changed: () => this.button && this.changed() });
    this.field = h("textarea", { id: "prompt", rows: "1", "t-label": "prompt", "t-placeholder": "promptHint", "aria-describedby": "keys", autocomplete: "off" });
    this.documents = new Attachments(suffixes, { changed: () => this.changed(), failed });
    this.button = iconButton("send", "send", () => (this.busy ? stop() : this.submit()), { class: "icon-button send" });
    this.form = h(
      "form",
      { "t-label": "prompt", on: { submit: (event) => (event.preventDefault(), this.submit()) } },
      this.pictures.row,
      this.documents.list,
      h("div", { class: "composer" }, this.pictures.button, this.documents.button, this.documents.picker, this.field, microphone, this.button),
      h("p", { id: "keys", class: "hint keys", t: "keys" }),
    );
    this.notice = h("div", { class: "notices" });
    root.replaceChildren(this.notice, this.form);
    this.field.addEventListener("input", () => (this.changed(), typed(this.text)));
    this.field.addEventListener("keydown", (event) => {
      // While a Chinese word is composed, Enter belongs to the input method (Safari sends 229 after it).
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      if (!this.busy) this.submit();
    });
    addEventListener("dragover", (event) => this.takes(event.dataTransfer) && event.preventDefault());
    addEventListener("drop", (event) => this.receive(event, event.dataTransfer));
    addEventListener("paste", (event) => this.receive(event, event.clipboardData));
    this.busy = false;
  }

  /** Whether files can be added. */
  takes(data) {
    return [...(data?.types ?? [])].includes("Files") && (this.pictures.allowed || Boolean(this.documents.picker));
  }

  /** Adds the files that are dropped or pasted: pictures where the model reads these, documents otherwise. */
  receive(event, data) {
    if (!this.takes(data) || !data.files.length) return;
    event.preventDefault(); // the browser would open a file that is dropped
    const files = [...data.files];
    const isPicture = (file) => this.pictures.allowed && file.type.startsWith("image/");
    this.pictures.add(files.filter(isPicture));
    if (this.documents.picker) this.documents.add(files.filter((file) => !isPicture(file)));
  }

  get text() {
    return this.field.value;
  }

  set text(value) {
    this.field.value = value;
    this.changed();
    this.actions.typed(value);
  }

  get busy() {
    return this.working;
  }

  set busy(is) {
    this.working = is;
    this.button.replaceChildren(icon(is ? "stop" : "send"));
    this.button.dataset.tLabel = is ? "stop" : "send";
    this.button.classList.toggle("stop", is);
    label(this.button);
    this.changed();
  }

  get empty() {
    return !this.text.trim() && !this.pictures.urls.length;
  }

  submit() {
    const { text } = this;
    if (this.empty || this.documents.reading) return;
    this.text = "";
    this.actions.send(text, { pictures: this.pictures.take(), documents: this.documents.take() });
  }

  changed() {
    if (!SIZED) {
      this.field.style.height = "auto";
      this.field.style.height = `${this.field.scrollHeight}px`;
    }
    this.button.disabled = !this.busy && (this.empty || this.documents.reading);
  }

  /** Puts a text after what is written. */
  add(text) {
    const { text: before } = this;
    this.text = before && !/\s$/.test(before) ? `${before} ${text}` : before + text;
  }

  focus() {
    this.field.focus({ preventScroll: true });
  }
}
