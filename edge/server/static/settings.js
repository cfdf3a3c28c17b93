// The settings: the conversation's model, system prompt and sampling; the page's theme, language, key and data.

import { isOn } from "./conversation.js";
import { h, iconButton, say } from "./element.js";
import { settings } from "./store.js";
import { useKey } from "./stream.js";
import { label, speak } from "./words.js";

export class Settings {
  /** Actions: `changed(name, value)` for the conversation's settings; `exportAll`, `load(file)`, `removeAll`, `count`. */
  constructor(facts, actions) {
    this.facts = facts;
    this.actions = actions;
    this.system = h("textarea", { id: "set-system", class: "field", rows: "4", "t-placeholder": "systemHint", on: { change: () => this.changed("system", this.system.value) } });
    this.numbers = {
      temperature: this.number("temperature", { min: "0", max: "5", step: "0.1" }),
      top_p: this.number("top_p", { min: "0.01", max: "1", step: "0.01" }),
      max_tokens: this.number("max_tokens", { min: "1", step: "1", inputmode: "numeric" }),
    };
    this.model = h(
      "select",
      { id: "set-model", class: "field", on: { change: () => this.changed("model", this.model.value) } },
      ...facts.models.map(({ name }) => h("option", { value: name }, name)),
    );
    this.tools = h("div", { class: "stack" });
    this.key = h("input", { class: "field", type: "password", autocomplete: "off", "t-label": "key", on: { change: () => useKey(this.key.value) } });
    this.count = h("button", { type: "button", class: "button danger", t: "removeAll", on: { click: () => this.removeAll() } });
    const file = h("input", { type: "file", accept: "application/json,.json", hidden: true, "t-label": "import", on: { change: () => this.load(file) } });
    this.dialog = h(
      "dialog",
      { class: "settings", "aria-labelledby": "settings-title" },
      h("div", { class: "dialog-top" }, h("h2", { id: "settings-title", t: "settings" }), iconButton("close", "close", () => this.dialog.close())),
      h(
        "div",
        { class: "dialog-body" },
        section(
          "conversation",
          "forThis",
          facts.models.length > 1 ? row("set-model", "model", this.model) : null,
          stack("set-system", "system", this.system),
          row("set-temperature", "temperature", this.numbers.temperature),
          row("set-top_p", "topP", this.numbers.top_p),
          row("set-max_tokens", "maxTokens", this.numbers.max_tokens),
        ),
        facts.tools.length ? section("tools", "toolsHint", this.tools) : null,
        section(
          "appearance",
          null,
          row("set-theme", "theme", choice("theme", [["", "themeAuto"], ["light", "light"], ["dark", "dark"]], paint)),
          row("set-language", "language", choice("language", [["", "languageAuto"], ["en", "English"], ["zh", "中文"]], speak)),
        ),
        section("key", "keyHint", h("form", { on: { submit: (event) => event.preventDefault() } }, this.key)),
        section(
          "data",
          "dataHint",
          h(
            "div",
            { class: "row wrap" },
            h("button", { type: "button", class: "button", t: "exportAll", on: { click: actions.exportAll } }),
            h("button", { type: "button", class: "button", t: "import", on: { click: () => file.click() } }),
            file,
            this.count,
          ),
        ),
      ),
    );
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => this.store());
    document.body.append(this.dialog);
  }

  number(name, limits) {
    const field = h("input", { id: `set-${name}`, class: "field", type: "number", ...limits });
    field.addEventListener("change", () => {
      if (!field.checkValidity()) return field.reportValidity();
      this.changed(name, field.value === "" ? null : Number(field.value));
    });
    return field;
  }

  open(conversation) {
    const model = this.facts.models.find(({ name }) => name === conversation.model) ?? this.facts.models[0];
    this.model.value = model?.name ?? "";
    this.system.value = conversation.system;
    for (const [name, field] of Object.entries(this.numbers)) {
      field.value = conversation[name] ?? "";
      field.dataset.tPlaceholder = name === "max_tokens" ? "noLimit" : "modelsOwn";
      field.dataset.values = JSON.stringify({ value: model?.[name] ?? "" });
      label(field);
    }
    this.tools.replaceChildren(...this.facts.tools.map((tool) => this.tool(conversation, tool)));
    say(this.count, "removeAll");
    this.sure = false;
    this.dialog.showModal();
  }

  /** The switch of a tool. */
  tool(conversation, tool) {
    const box = h("input", { type: "checkbox", role: "switch", checked: isOn(conversation, tool), on: { change: () => this.changed("tools", { ...conversation.tools, [tool.name]: box.checked }) } });
    return h(
      "label",
      { class: "tool" },
      box,
      h("span", {}, h("span", { class: "name" }, tool.name), tool.approval ? h("span", { class: "hint", t: "toolAsks" }) : null, h("span", { class: "hint" }, tool.description)),
    );
  }

  changed(name, value) {
    this.actions.changed(name, value);
  }

  /** Applies a field that has the focus when the dialog closes. */
  store() {
    if (this.dialog.contains(document.activeElement)) document.activeElement.blur();
  }

  removeAll() {
    if (!this.sure) {
      this.sure = true;
      return say(this.count, "removeAllSure", { count: this.actions.count() });
    }
    this.dialog.close();
    this.actions.removeAll();
  }

  async load(file) {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    this.dialog.close();
    await this.actions.load(chosen);
  }
}

export function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

/** A choice of a few values that is stored in the browser and `apply`d at once. */
function choice(name, options, apply) {
  const select = h("select", { id: `set-${name}`, class: "field" });
  for (const [value, word] of options)
    select.append(/[A-Z一-鿿]/.test(word[0]) ? h("option", { value }, word) : h("option", { value, t: word }));
  select.value = settings.get(name);
  select.addEventListener("change", () => {
    settings.set(name, select.value);
    apply(select.value);
  });
  return select;
}

function section(word, hint, ...content) {
  return h("section", {}, h("h3", { t: word }), hint ? h("p", { class: "hint", t: hint }) : null, ...content);
}

function row(id, word, field) {
  return h("div", { class: "row" }, h("label", { for: id, t: word }), field);
}

function stack(id, word, field) {
  return h("div", { class: "stack" }, h("label", { for: id, t: word }), field);
}
