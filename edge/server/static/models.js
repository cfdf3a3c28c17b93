// The server's models: the list to choose from, with what is loaded, and how much memory each takes.

import { h } from "./element.js";
import { facts as readFacts } from "./stream.js";
import { spoken, words } from "./words.js";

const AGAIN = 1000; // milliseconds between two looks at a model that is being loaded

export class Models {
  /** `chosen(name)` is called when one is chosen. */
  constructor(facts, chosen) {
    this.facts = facts;
    this.select = h("select", { class: "field model", "t-label": "model", on: { change: () => chosen(this.select.value), pointerdown: () => this.look(), focus: () => this.look() } });
    this.select.append(...facts.models.map(({ name }) => h("option", { value: name })));
    this.draw();
  }

  /** What stands above the conversation: the list, or the name of the only model. */
  get element() {
    const { models } = this.facts;
    return models.length > 1 ? this.select : h("span", { class: "hint model" }, models[0]?.name ?? "");
  }

  /** Shows the model of a conversation. */
  show(name) {
    this.select.value = name || this.facts.models[0]?.name;
    this.draw();
  }

  /** Reads the models' states anew; a server that does not answer is no news. */
  async look() {
    try {
      this.facts.models = (await readFacts()).models;
      this.draw();
    } catch {
      // The next message tells.
    }
  }

  draw() {
    for (const option of this.select.options) {
      const found = this.facts.models.find(({ name }) => name === option.value);
      const { name, size, state, progress } = found ?? { name: option.value };
      const word = progress ? words("loadingPart", { percent: percent(progress) }) : words(STATES[state]);
      const text = state ? words("modelState", { name, size: bytes(size), state: word }) : name;
      if (option.textContent !== text) option.textContent = text;
    }
  }

  /** Calls `loading({model, seconds, percent})` every second while the conversation's model is being loaded, until `heard()`. */
  async watch(chosen, heard, loading) {
    const since = Date.now();
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
      if (heard()) return this.look();
      await this.look();
      const { models } = this.facts;
      const { name: model, state, progress } = models.find(({ name }) => name === chosen) ?? models[0];
      if (state === "loading" && !heard()) loading({ model, seconds: Math.round((Date.now() - since) / 1000), percent: percent(progress) });
    }
  }
}

const STATES = { loaded: "loaded", loading: "loading", unloaded: "unloaded" };

/** Returns a part from 0 to 1 in percent; 0 if it is not known. */
function percent(part) {
  return Math.floor(100 * (part ?? 0));
}

function bytes(count) {
  const [unit, divisor] = count < 1e6 ? ["kB", 1e3] : count < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  const digits = count / divisor < 10 ? 1 : 0;
  return `${(count / divisor).toLocaleString(spoken(), { maximumFractionDigits: digits })} ${unit}`;
}
