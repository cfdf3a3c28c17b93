// One turn on the page: a user's message, or a reply with its reasoning and its tool calls.

import { Approval, waitingCalls } from "./approval.js";
import { Citations } from "./citations.js";
import { colour } from "./code.js";
import { documentNames, sourceList } from "./documents.js";
import { h, icon, iconButton, say } from "./element.js";
import { Growing } from "./markdown.js";
import { views } from "./pictures.js";
import { events } from "./reply.js";

/** A user's message. `change(text)` sends it again. */
export function userTurn(message, { change }) {
  const pictures = message.pictures ? views(message.pictures) : null;
  const text = h("div", { class: "bubble" }, pictures, message.content);
  const actions = h(
    "div",
    { class: "actions" },
    iconButton("copy", "copy", () => {}, { "data-copy": "turn" }),
    iconButton("edit", "edit", () => edit()),
  );
  const foot = h("div", { class: "foot" }, actions);
  const turn = h("article", { class: "turn user" }, h("h2", { class: "unseen", t: "you" }), text, foot);
  if (message.documents?.length) text.before(documentNames(message.documents));
  turn.source = message.content;

  function edit() {
    const field = h("textarea", { class: "field", "t-label": "edit", rows: "3" });
    field.value = message.content;
    const back = () => {
      form.replaceWith(text, foot);
      actions.lastChild.focus();
    };
    const send = () => field.value.trim() && change(field.value);
    const form = h(
      "form",
      { class: "editing", on: { submit: (event) => (event.preventDefault(), send()) } },
      field,
      h(
        "div",
        { class: "row" },
        h("span", { class: "hint", t: "editHint" }),
        h("button", { type: "button", class: "button", t: "cancel", on: { click: back } }),
        h("button", { type: "submit", class: "button strong", t: "send" }),
      ),
    );
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Escape") (event.stopPropagation(), back());
      if (event.key === "Enter" && !event.shiftKey) (event.preventDefault(), send());
    });
    text.replaceWith(form);
    foot.remove();
    field.focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
  }

  return turn;
}

/** A reply: `take` its events as they arrive, then `finish` it. */
export class ReplyTurn {
  /** `again` regenerates it; `decide({decisions, always})` runs calls that wait for it, if it is `open`; `grown` is called
   * whenever it is drawn. `citations` are the passages that the conversation has before it. `reader` reads it aloud. `still`: no links, no copy buttons (a kiosk). */
  constructor({ again, decide, grown = () => {}, citations = null, still = false, open = false, reader = null }) {
    this.open = open;
    this.again = again;
    this.decide = decide;
    this.reader = reader;
    this.citations = new Citations(citations);
    this.options = { grown, still, citations: this.citations };
    this.body = h("div", { class: "body" });
    this.foot = h("div", { class: "foot" });
    this.looking = h("p", { class: "hint looking", hidden: true });
    this.wait = h("div", { class: "wait", "t-label": "writing", role: "img" }, h("i"), h("i"), h("i"));
    this.element = h("article", { class: "turn reply" }, h("h2", { class: "unseen", t: "reply" }), this.body, this.looking, this.wait, this.foot);
    this.element.source = "";
    this.calls = new Map();
    this.part = null; // the part that is being generated: {kind, growing, details, since}
  }

  take({ name, data }) {
    this.citations.take({ name, data });
    if (name === "documents") this.body.append(sourceList(data));
    else if (name === "text") this.text(data.text);
    else if (name === "reasoning") this.reasoning(data.text);
    else if (name === "picture_progress") return this.progress(data);
    else if (name === "tool_call_delta") this.call(data).write(data.arguments);
    else if (name === "tool_call") this.call(data).called(data);
    else if (name === "tool_result") this.call({ id: data.call_id, name: data.name }).returned(data);
    this.looking.hidden = true;
    if (name !== "finish" && name !== "documents") this.wait.hidden = name === "text" || name === "reasoning";
  }

  /** Shows how long the model has been reading a picture, before the first word of the reply. */
  progress({ number, total, seconds, expected }) {
    const word = total > 1 ? "readingPictures" : expected ? "readingPictureOf" : "readingPicture";
    this.looking.hidden = false;
    say(this.looking, word, { number, total, seconds: Math.round(seconds), expected: Math.round(expected) });
  }

  /** Shows how long the model has been loading, and how far it is where that is known. */
  loading({ model, seconds, percent }) {
    this.looking.hidden = false;
    say(this.looking, percent ? "loadingModelPart" : "loadingModel", { model, seconds, percent });
  }

  text(piece) {
    const first = this.part?.kind !== "text";
    if (first) {
      this.leave();
      piece = piece.replace(/^\n+/, "");
      if (!piece) return;
      const target = h("div", { class: "prose" });
      this.body.append(target);
      this.part = { kind: "text", growing: new Growing(target, this.options) };
      if (this.element.source) this.element.source += "\n\n";
    }
    this.element.source += piece;
    this.part.growing.write(piece);
  }

  reasoning(piece) {
    if (this.part?.kind !== "reasoning") {
      this.leave();
      const target = h("div", { class: "prose" });
      const summary = h("summary", {}, h("span", { t: "thinking" }));
      const details = folding("thoughts", summary, target);
      this.body.append(details);
      this.part = { kind: "reasoning", details, summary, growing: new Growing(target, this.options), since: Date.now() };
    }
    this.part.growing.write(piece);
  }

  /** Returns the view of a call, created at the first event of the call. */
  call({ id, name }) {
    if (!this.calls.has(id)) {
      this.leave();
      const view = new Call(name);
      this.calls.set(id, view);
      this.body.append(view.element);
    }
    this.options.grown();
    return this.calls.get(id);
  }

  /** Ends the part that is being generated. */
  leave() {
    this.part?.growing.end();
    if (this.part?.kind === "reasoning") {
      const seconds = Math.round((Date.now() - this.part.since) / 1000);
      if (seconds > 0 && !this.stored) say(this.part.summary.firstChild, "thoughtFor", { seconds });
      else say(this.part.summary.firstChild, "thought");
      fold(this.part.details);
    }
    this.part = null;
  }

  /** Ends the reply. The `note` of its last message has the reason of an early end. */
  finish(messages) {
    this.leave();
    this.wait.remove();
    this.looking.remove();
    this.ask(waitingCalls(messages));
    for (const call of this.calls.values()) call.ended();
    const { note, usage, full } = messages.at(-1) ?? {};
    if (note) this.foot.append(noteLine(note, this.again));
    this.aloud = this.reader && this.element.source ? this.reader.button(this.body) : null;
    if (this.options.still) return this.aloud && this.foot.append(this.aloud);
    if (full) this.foot.append(h("p", { class: "hint full", t: "nearlyFull", values: { part: Math.floor(full * 100) } }));
    this.foot.append(
      h(
        "div",
        { class: "actions" },
        iconButton("copy", "copy", () => {}, { "data-copy": "turn" }),
        iconButton("retry", "retry", () => this.again(), { class: "icon-button retry" }),
        this.aloud,
        usage?.seconds ? h("span", { class: "hint", t: "speed", values: rate(usage) }) : null,
      ),
    );
  }

  /** Shows a finished reply. */
  static of(messages, options) {
    const turn = new ReplyTurn(options);
    turn.stored = true;
    for (const event of events(messages)) turn.take(event);
    turn.finish(messages);
    return turn;
  }

  /** Shows the buttons for calls that wait for a decision. */
  ask(calls) {
    if (!this.open) return;
    const approval = new Approval(calls.map(({ id }) => id), this.decide);
    for (const { id, function: { name } } of calls) this.calls.get(id)?.wait(approval.buttons(id, name));
  }
}

/** A tool call: its name, its arguments as they arrive, and its result. */
class Call {
  constructor(name) {
    this.state = h("span", { class: "state", t: "running" });
    this.preview = h("span", { class: "preview" });
    this.arguments = h("code");
    this.result = h("code");
    this.output = h("div", { hidden: true }, h("h3", { t: "result" }), h("pre", { tabindex: "0" }, this.result));
    this.element = folding(
      "call",
      h("summary", {}, icon("tool"), h("span", { class: "name" }, name), this.preview, this.state),
      h("div", {}, h("h3", { t: "arguments" }), h("pre", { tabindex: "0" }, this.arguments)),
      this.output,
    );
    this.element.classList.add("running");
    this.name = name;
  }

  write(piece) {
    this.arguments.append(piece);
  }

  called({ arguments: text }) {
    this.arguments.textContent = pretty(text);
    if (this.name === "python") colour(this.arguments, "python");
    this.preview.textContent = text.replace(/\s+/g, " ");
  }

  returned({ content, error, pictures = [] }) {
    this.output.hidden = false;
    this.approval?.remove();
    if (pictures.length) this.element.after(views(pictures)); // a plot stays in sight
    this.result.textContent = pretty(content);
    this.element.classList.remove("running");
    this.element.classList.toggle("failed", error);
    say(this.state, error ? "failed" : "finished");
    fold(this.element);
  }

  /** Shows buttons to decide on the call. */
  wait(buttons) {
    this.approval = buttons;
    this.arguments.closest("div").after(buttons);
    this.element.classList.remove("running");
    say(this.state, "undecided");
  }

  /** Marks a call without a result as not run, once the reply has ended. */
  ended() {
    if (!this.element.classList.contains("running")) return;
    this.element.classList.remove("running");
    say(this.state, "unanswered");
    fold(this.element);
  }
}

/** Returns the reason of an early end, with a button that calls `act`. */
export function noteLine(note, act) {
  const calm = ["noteStopped", "noteLength"].includes(note.word);
  return h(
    "p",
    { class: calm ? "note" : "note trouble", role: calm ? null : "alert" },
    h("span", { t: note.word, values: note.values }),
    calm ? null : h("button", { type: "button", class: "button", t: "again", on: { click: act } }),
  );
}

/** Details that are open while they are generated, unless the reader opens or closes them. */
function folding(kind, summary, ...content) {
  const details = h("details", { class: kind, open: true }, summary, h("div", { class: "inside" }, ...content));
  summary.addEventListener("click", () => (details.dataset.touched = "yes"));
  return details;
}

function fold(details) {
  if (!details.dataset.touched) details.open = false;
}

/** Returns ‹ 2/3 ›, to show the other versions of a turn. `pick(id)` shows one. */
export function versionSwitch(ids, id, pick) {
  const index = ids.indexOf(id);
  const values = { number: index + 1, count: ids.length };
  const step = (name, word, to) => iconButton(name, word, () => pick(ids[to]), { class: `icon-button ${name}`, disabled: !(to in ids) });
  return h(
    "div",
    { class: "versions", role: "group", "t-label": "version", values },
    step("left", "versionBefore", index - 1),
    h("span", { "aria-hidden": "true" }, `${index + 1}/${ids.length}`),
    step("right", "versionAfter", index + 1),
  );
}

function pretty(text) {
  try {
    const value = JSON.parse(text);
    const [only, ...others] = Object.values(value ?? {});
    if (!others.length && typeof only === "string" && only.includes("\n")) return only; // code
    return typeof value === "object" ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}

function rate({ completion_tokens: tokens, seconds, ttft }) {
  const writing = seconds - (ttft ?? 0);
  const a_second = writing > 0 && tokens > 1 ? (tokens - 1) / writing : tokens / seconds;
  return { tokens, rate: a_second < 10 ? a_second.toFixed(1) : Math.round(a_second) };
}
