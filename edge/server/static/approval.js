// Calls that a person approves before they run.

import { h } from "./element.js";

/** Returns the calls at the end of a conversation that have no result: those that wait for a decision. */
export function waitingCalls(messages) {
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  if (last < 0 || messages.slice(last + 1).some(({ role }) => role !== "tool")) return [];
  const answered = new Set(messages.slice(last + 1).map(({ tool_call_id }) => tool_call_id));
  return (messages[last].tool_calls ?? []).filter(({ id }) => !answered.has(id));
}

/** Returns the messages, with a result for each call that a person has passed over: it did not run. */
export function answerAll(messages) {
  const answered = new Set(messages.map(({ tool_call_id }) => tool_call_id));
  return messages.flatMap((message) => [
    message,
    ...(message.tool_calls ?? [])
      .filter(({ id }) => !answered.has(id))
      .map(({ id, function: { name } }) => ({ role: "tool", tool_call_id: id, name, content: "declined" })),
  ]);
}

/** The decisions on the calls of one reply; `decide({decisions, always})` is called once there is one on each. */
export class Approval {
  constructor(ids, decide) {
    this.ids = ids;
    this.decide = decide;
    this.decisions = {};
    this.always = [];
  }

  /** The buttons for a call. */
  buttons(id, name) {
    const button = (word, choice, strong) =>
      h("button", { type: "button", class: strong ? "button strong" : "button", t: word, values: { name }, on: { click: () => this.choose(id, choice, row, name) } });
    const row = h(
      "div",
      { class: "approval", role: "group", "t-label": "approve", values: { name } },
      h("p", { t: "approve", values: { name } }),
      h("div", { class: "row wrap" }, button("approveRun", true, true), button("approveNot", false), button("approveAlways", "always")),
    );
    return row;
  }

  choose(id, choice, row, name) {
    this.decisions[id] = choice !== false;
    if (choice === "always") this.always.push(name);
    for (const button of row.querySelectorAll("button")) button.disabled = true;
    if (this.ids.every((one) => one in this.decisions)) this.decide({ decisions: this.decisions, always: this.always });
  }
}
