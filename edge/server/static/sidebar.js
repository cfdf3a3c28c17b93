// The list of conversations: begin one, find, open, rename and delete.

import { holds, title } from "./conversation.js";
import { h, icon, iconButton } from "./element.js";

export class Sidebar {
  constructor(root, { begin, open, rename, remove, settings }) {
    this.actions = { open, rename, remove };
    this.conversations = [];
    this.current = null;
    this.list = h("div", { class: "list" });
    this.find = h("input", { type: "search", class: "field", "t-label": "search", "t-placeholder": "search", on: { input: () => this.draw() } });
    root.replaceChildren(
      h(
        "div",
        { class: "brand" },
        h("img", { src: "static/icon.svg", alt: "", width: "26", height: "26" }),
        h("span", {}, "glm4-edge"),
        iconButton("close", "close", () => this.shut(), { class: "icon-button only-narrow" }),
      ),
      h("button", { type: "button", class: "button new", on: { click: () => (this.shut(), begin()) } }, icon("plus"), h("span", { t: "newChat" })),
      h("div", { class: "find" }, icon("search"), this.find),
      this.list,
      h("button", { type: "button", class: "button plain", on: { click: () => (this.shut(), settings()) } }, icon("gear"), h("span", { t: "settings" })),
    );
    this.root = root;
    root.addEventListener("keydown", (event) => event.key === "Escape" && this.shut());
  }

  show(conversations, current) {
    this.conversations = conversations;
    this.current = current;
    this.draw();
  }

  draw() {
    if (this.renaming) return; // another tab's change must not end it
    const wanted = this.find.value.trim();
    const found = this.conversations.filter((one) => !wanted || holds(one, wanted));
    const midnight = new Date().setHours(0, 0, 0, 0);
    const today = found.filter(({ updated }) => updated >= midnight);
    const earlier = found.filter(({ updated }) => updated < midnight);
    const group = (word, members) => members.length && [h("h2", { t: word }), h("ul", {}, ...members.map((one) => this.entry(one)))];
    this.list.replaceChildren(
      ...[group("today", today), group("earlier", earlier)].flatMap((part) => part || []),
      ...(wanted && !found.length ? [h("p", { class: "hint", t: "none" })] : []),
    );
  }

  entry(conversation) {
    const current = conversation.id === this.current;
    const name = title(conversation);
    const open = h(
      "button",
      { type: "button", class: "open", title: name, "aria-current": current ? "true" : null, on: { click: () => (this.shut(), this.actions.open(conversation.id)) } },
      name || h("span", { t: "untitled" }),
    );
    const rename = iconButton("edit", "rename", () => this.rename(item, conversation));
    const remove = iconButton("bin", "remove", () => this.actions.remove(conversation.id));
    const item = h("li", { class: current ? "current" : null }, open, rename, remove);
    return item;
  }

  rename(item, conversation) {
    const field = h("input", { class: "field", "t-label": "rename", maxlength: "100" });
    field.value = title(conversation);
    let over = false;
    const end = (keep) => {
      if (over) return;
      over = true;
      this.renaming = false;
      if (keep) this.actions.rename(conversation.id, field.value.trim());
      this.draw();
      [...this.list.querySelectorAll(".open")].find(({ title: name }) => name === title(conversation))?.focus();
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") (event.stopPropagation(), end(false));
    });
    this.renaming = true;
    item.replaceChildren(field);
    field.select();
  }

  /** Opens or closes the list where it covers the conversation: on a narrow page. */
  toggle() {
    const open = document.documentElement.classList.toggle("listed");
    if (open) this.root.querySelector("button.new").focus();
  }

  shut() {
    document.documentElement.classList.remove("listed");
  }
}
