// A kiosk: short visits, no stored data, and no way to leave the page.

import { h, icon, say } from "./element.js";
import { spoken, speak, words } from "./words.js";

/** Returns a text of the server, which may be per language. */
export function inLanguage(text) {
  if (Array.isArray(text) || typeof text === "string") return text;
  return text[spoken()] ?? Object.values(text)[0] ?? "";
}

/** The header of a kiosk's page: its title, its languages, and a button to start over. */
export function kioskTop(root, facts, { again, turned }) {
  const languages = [["en", "English"], ["zh", "中文"]].map(([language, name]) =>
    h("button", { type: "button", class: "button", lang: language, on: { click: () => (speak(language), turned()) } }, name),
  );
  const over = h("button", { type: "button", class: "button over", on: { click: again } }, icon("retry"), h("span", { t: "startOver" }));
  root.replaceChildren(h("h1", { class: "title" }), h("div", { class: "languages" }, ...languages), over);
  const mark = () => {
    root.querySelector("h1").textContent = inLanguage(facts.kiosk.title) || facts.models[0].name;
    document.title = root.querySelector("h1").textContent;
    for (const button of languages) button.setAttribute("aria-pressed", String(button.lang === spoken()));
  };
  mark();
  return mark;
}

/** A timer that wipes the conversation after `seconds` without a touch, with a countdown on the screen. */
export class Idle {
  /** `untouched()` returns whether there is nothing to wipe, `busy()` whether a reply is being generated. */
  constructor(seconds, { wipe, untouched, busy }) {
    this.seconds = seconds;
    this.warning = Math.min(15, Math.floor(seconds / 2));
    this.actions = { wipe, untouched, busy };
    this.text = h("p");
    this.dialog = h(
      "dialog",
      { class: "idle", role: "alertdialog", "aria-labelledby": "idle-title" },
      h("h2", { id: "idle-title", t: "idleTitle" }),
      this.text,
      h("button", { type: "button", class: "button strong", t: "goOn", on: { click: () => this.touch() } }),
    );
    document.body.append(this.dialog);
    for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart", "input"])
      addEventListener(event, () => this.touch(), { passive: true, capture: true });
    this.touch();
    setInterval(() => this.tick(), 250);
  }

  touch() {
    this.last = performance.now();
    if (this.dialog.open) this.dialog.close();
  }

  tick() {
    if (this.actions.busy()) return this.touch();
    const left = Math.ceil(this.seconds - (performance.now() - this.last) / 1000);
    if (left <= 0) {
      this.touch();
      this.actions.wipe();
    } else if (left <= this.warning && !this.actions.untouched()) {
      say(this.text, "idleText", { seconds: left });
      if (!this.dialog.open) this.dialog.showModal();
    }
  }
}

/** Blocks menus, drops and the browser's shortcuts, as far as a page can. */
export function stay() {
  for (const event of ["contextmenu", "dragover", "drop", "auxclick"]) addEventListener(event, (given) => given.preventDefault());
  addEventListener("keydown", (event) => {
    const editing = event.ctrlKey && ["a", "c", "v", "x", "z"].includes(event.key.toLowerCase());
    if (/^F\d+$/.test(event.key) || event.altKey || event.metaKey || (event.ctrlKey && !editing)) event.preventDefault();
  });
}

/** An overlay for the time without a connection to the server. */
export function waiting() {
  return h("div", { class: "waiting", role: "status" }, words("waiting"));
}
