// The conversation on the page: its turns, the greeting of an empty one, and a view that follows the reply.

import { h, icon, iconButton } from "./element.js";
import { ReplyTurn, noteLine, userTurn } from "./turn.js";
import { words } from "./words.js";

const NEAR = 60; // pixels from the end at which the view still follows

export class Thread {
  /** `change(index, text)` sends the message at that index again, `again()` regenerates the last reply. `still`: no
   *  links and no copy buttons, as in a kiosk. */
  constructor(root, scroller, actions, { still = false } = {}) {
    this.root = root;
    this.scroller = scroller;
    this.actions = actions;
    this.still = still;
    this.follow = true;
    this.latest = iconButton("down", "latest", () => this.end(), { class: "icon-button latest", hidden: true });
    scroller.after(this.latest);
    let before = 0;
    scroller.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = scroller;
      const near = scrollHeight - scrollTop - clientHeight < NEAR;
      if (near) this.follow = true;
      else if (scrollTop < before) this.follow = false;
      this.latest.hidden = near;
      before = scrollTop;
    }, { passive: true });
    // Without a reply in progress, details that a reader opens stay in place.
    new ResizeObserver(() => this.working && this.grown()).observe(root);
    root.addEventListener("click", (event) => copy(event.target.closest("[data-copy]")));
  }

  options() {
    return { still: this.still, again: this.actions.again, grown: () => this.grown() };
  }

  show(conversation, greeting) {
    const turns = [];
    let said = [];
    const flush = () => said.length && turns.push(ReplyTurn.of(said, this.options()).element);
    conversation.messages.forEach((message, index) => {
      if (message.role !== "user") return said.push(message);
      flush();
      said = [];
      turns.push(userTurn(message, { change: (text) => this.actions.change(index, text) }));
      if (message.note) turns.push(noteLine(message.note, this.actions.again));
    });
    flush();
    this.root.replaceChildren(...(turns.length ? turns : [greeting()]));
    this.end();
  }

  add(element) {
    this.root.querySelector(".greeting")?.remove();
    this.root.append(element);
    this.end();
  }

  reply() {
    return new ReplyTurn(this.options());
  }

  /** Whether a reply is in progress: the style then hides editing and regenerating. */
  set busy(is) {
    if (this.working && !is) this.grown();
    this.working = is;
    this.root.classList.toggle("busy", is);
    this.root.setAttribute("aria-busy", String(is));
  }

  grown() {
    if (this.follow) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  end() {
    this.follow = true;
    this.grown();
  }
}

export function greeting({ facts, suggestions = [], suggest = () => {} }) {
  const [model] = facts.models;
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const where = { model: model?.name ?? "GLM-4", host: location.hostname };
  return h(
    "section",
    { class: "greeting" },
    h("h2", { t: "greeting" }),
    facts.kiosk ? null : h("p", { t: local ? "runsHere" : "runsThere", values: where }),
    facts.tools.length && !facts.kiosk
      ? h(
          "p",
          { class: "tools" },
          h("span", { t: "canUse" }),
          ...facts.tools.map(({ name, description }) => h("span", { class: "chip", title: description }, icon("tool"), name)),
        )
      : null,
    suggestions.length
      ? h(
          "div",
          { class: "suggestions" },
          ...suggestions.map((text) => h("button", { type: "button", class: "suggestion", on: { click: () => suggest(text) } }, text)),
        )
      : null,
  );
}

/** Copies the code block or the turn that a button belongs to, and confirms it on the button. */
async function copy(button) {
  if (!button) return;
  const code = button.closest(".code")?.querySelector("code");
  await clip(button.dataset.copy === "code" ? code.textContent : button.closest(".turn").source);
  const { copy: what } = button.dataset;
  button.replaceChildren(icon("done"));
  button.setAttribute("aria-label", words("copied"));
  setTimeout(() => {
    button.replaceChildren(icon("copy"));
    button.setAttribute("aria-label", words(what === "code" ? "copyCode" : "copy"));
  }, 1500);
}

/** Copies a text. The clipboard API needs HTTPS or this machine; otherwise a selection is copied. */
async function clip(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Not permitted here; copying a selection may be.
    }
  }
  const field = h("textarea", { class: "unseen", "aria-hidden": "true" });
  field.value = text;
  const back = document.activeElement;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  back?.focus();
}
