// The field for a message, and the button that sends it or stops the reply.

import { h, icon, iconButton } from "./element.js";
import { Pictures } from "./pictures.js";
import { label } from "./words.js";

const SIZED = CSS.supports("field-sizing", "content"); // then the style makes the field as tall as its text

export class Composer {
  constructor(root, { send, stop, trouble, typed = () => {} }) {
    this.actions = { send, stop, typed };
    this.pictures = new Pictures({ trouble, changed: () => this.button && this.changed() });
    this.field = h("textarea", { id: "prompt", rows: "1", "t-label": "prompt", "t-placeholder": "promptHint", "aria-describedby": "keys", autocomplete: "off" });
    this.button = iconButton("send", "send", () => (this.busy ? stop() : this.submit()), { class: "icon-button send" });
    this.form = h(
      "form",
      { "t-label": "prompt", on: { submit: (event) => (event.preventDefault(), this.submit()) } },
      this.pictures.row,
      h("div", { class: "composer" }, this.pictures.button, this.field, this.button),
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
    this.busy = false;
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
    if (this.empty) return;
    this.text = "";
    this.actions.send(text, this.pictures.take());
  }

  changed() {
    if (!SIZED) {
      this.field.style.height = "auto";
      this.field.style.height = `${this.field.scrollHeight}px`;
    }
    this.button.disabled = !this.busy && this.empty;
  }

  focus() {
    this.field.focus({ preventScroll: true });
  }
}
