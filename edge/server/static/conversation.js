// A conversation as a value: OpenAI's messages and its settings. Functions to send, save and load it.
//
// {id, title, created, updated, system, model, temperature, top_p, max_tokens, tools, messages, others, stamps}. `tools`
// has, by name, those that were switched on (true) or off; `messages` is the branch that is shown, `others` are those beside it (branches.js); `stamps` has when a setting was last changed, by
// which two copies of a conversation are merged. A user's message may have
// `pictures`, data: URLs, which are sent as parts of its content, and `documents`, {name, sections}; `sent` is then the
// text that the server made of both, which later requests repeat, and a reply to it has its `sources`. A message may
// have fields that are not sent: `error` of a tool's result, `usage` of a reply, and `note`, {word, values}: why it
// ended early.

import { answerAll } from "./approval.js";
import { checkTurns, leaf, mergeTurns } from "./branches.js";
import { checkCitation, checkDocuments, checkSources } from "./documents.js";
import { isPicture } from "./pictures.js";
import { has, words } from "./words.js";

const FORMAT = "glm4-edge conversations";
const SETTINGS = ["system", "model", "temperature", "top_p", "max_tokens", "tools"];
const ROLES = ["user", "assistant", "tool"];
// The server's limits, for files with any contents.
const LIMITS = { temperature: [0, 5], top_p: [1e-6, 1], max_tokens: [1, 2 ** 31 - 1] };

export function begin(settings = {}) {
  const now = Date.now();
  const own = { system: "", model: "", temperature: null, top_p: null, max_tokens: null, tools: {} };
  for (const name of SETTINGS) own[name] = settings[name] ?? own[name];
  return { id: identity(), title: "", created: now, updated: now, ...own, messages: [], others: [], stamps: {} };
}

/** Changes the title or a setting. */
export function change(conversation, name, value) {
  conversation[name] = value;
  conversation.stamps[name] = Date.now();
}

/** Adds what another copy of the conversation has; `end` is the last turn to show. Returns whether anything changed. */
export function merge(conversation, other, end = leaf(conversation)) {
  let changed = mergeTurns(conversation, other, end);
  for (const name of ["title", ...SETTINGS]) {
    if (!((other.stamps[name] ?? 0) > (conversation.stamps[name] ?? 0))) continue;
    conversation[name] = other[name];
    conversation.stamps[name] = other.stamps[name];
    changed = true;
  }
  conversation.updated = Math.max(conversation.updated, other.updated);
  return changed;
}

/** Whether a tool may be used: one whose calls a person approves is off unless it was switched on. */
export function isOn(conversation, { name, approval }) {
  return conversation.tools[name] ?? !approval;
}

/** The body of POST /chat. With `decisions`, by id, of a person on the calls at the end, and the tools in `always`. */
export function request(conversation, facts, { decisions = null, always = [] } = {}) {
  const { id, system, model, temperature, top_p, max_tokens } = conversation;
  const messages = decisions ? conversation.messages : answerAll(conversation.messages);
  const last = messages.at(-1);
  const body = { messages: messages.map((message) => plain(message === last ? message : { ...message, content: message.sent ?? message.content })) };
  if (last?.documents?.length) body.documents = last.documents;
  if (system.trim()) body.messages.unshift({ role: "system", content: system });
  if (facts.models.some(({ name }) => name === model)) body.model = model; // without it, the server's first model
  for (const [name, value] of Object.entries({ temperature, top_p, max_tokens })) if (value !== null) body[name] = value;
  if (facts.tools.length && !facts.kiosk) {
    Object.assign(body, { session: id, tools: facts.tools.filter((tool) => isOn(conversation, tool)).map(({ name }) => name) });
    if (always.length) body.approved_tools = always.filter((name) => body.tools.includes(name));
  }
  if (decisions) body.decisions = decisions;
  return body;
}

function plain({ role, content, parts, pictures, reasoning_content, tool_calls, tool_call_id, name }) {
  if (parts) content = parts;
  if (pictures) content = [...pictures.map((url) => ({ type: "image_url", image_url: { url } })), { type: "text", text: content }];
  return JSON.parse(JSON.stringify({ role, content, reasoning_content, tool_calls, tool_call_id, name }));
}

/** The first line of the first question. */
export function title(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find(({ role }) => role === "user");
  const line = first?.content.trim().split("\n")[0] || (first?.pictures ? words("picture") : "");
  return line.length > 60 ? `${line.slice(0, 60)}…` : line;
}

export function holds(conversation, text) {
  const wanted = text.toLowerCase();
  return [title(conversation), ...conversation.messages.map(({ content }) => content)].some((part) =>
    part.toLowerCase().includes(wanted),
  );
}

/** Returns the conversation in the form in which it is stored; throws if it is invalid. Drops unknown fields. */
export function check(value) {
  const text = (part) => {
    if (typeof part !== "string") throw new TypeError("no text");
    return part;
  };
  const number = (part) => (Number.isFinite(part) ? part : null);
  const setting = (name) => {
    const [least, most] = LIMITS[name];
    const part = number(value[name]);
    return part === null || part < least || part > most || (name === "max_tokens" && !Number.isInteger(part)) ? null : part;
  };
  const checked = (message) => {
    if (!ROLES.includes(message.role)) throw new TypeError("no role");
    const out = { role: message.role, content: text(message.content ?? "") };
    if (message.pictures) out.pictures = message.pictures.filter(isPicture);
    if (message.reasoning_content) out.reasoning_content = text(message.reasoning_content);
    if (message.tool_calls) out.tool_calls = message.tool_calls.map((call) => ({
      id: text(call.id),
      type: "function",
      function: { name: text(call.function.name), arguments: text(call.function.arguments) },
    }));
    if (message.role === "tool") Object.assign(out, { tool_call_id: text(message.tool_call_id), name: text(message.name) });
    if (message.documents?.length) out.documents = checkDocuments(message.documents);
    if (message.sent) out.sent = text(message.sent);
    if (message.sources) out.sources = checkSources(message.sources);
    if (message.shown) out.shown = message.shown.filter(isPicture);
    if (message.parts) out.parts = message.parts.map(partOf);
    if (message.citations) out.citations = message.citations.map(checkCitation);
    if (Number.isInteger(message.dropped) && message.dropped > 0) out.dropped = message.dropped;
    if (message.error === true) out.error = true;
    if (message.usage) out.usage = { completion_tokens: number(message.usage.completion_tokens), seconds: number(message.usage.seconds), ttft: number(message.usage.ttft) };
    if (message.note) out.note = noteOf(message.note);
    return out;
  };
  const others = Array.isArray(value.others) ? value.others : [];
  const conversation = {
    ...begin(value),
    id: text(value.id),
    title: text(value.title ?? ""),
    created: number(value.created) ?? Date.now(),
    updated: number(value.updated) ?? Date.now(),
    system: text(value.system ?? ""),
    model: text(value.model ?? ""),
    temperature: setting("temperature"),
    top_p: setting("top_p"),
    max_tokens: setting("max_tokens"),
    tools: Object.fromEntries(Object.entries(value.tools ?? {}).filter(([, on]) => typeof on === "boolean")),
    messages: value.messages.map(checked),
    others: others.map(checked),
  };
  for (const name of ["title", ...SETTINGS]) if (number(value.stamps?.[name])) conversation.stamps[name] = value.stamps[name];
  checkTurns(conversation, { messages: value.messages, others });
  return conversation;
}

/** Returns a part of a result that goes back to the server; throws if it is neither text nor a picture. */
function partOf({ type, text, image_url: picture }) {
  if (type === "text" && typeof text === "string") return { type, text };
  if (type === "image_url" && isPicture(picture?.url)) return { type, image_url: { url: picture.url } };
  throw new TypeError("no part");
}

/** Returns a note with a key of words.js. Any other note, such as that of a later version, becomes noteBroken. */
function noteOf({ word, values }) {
  if (!has(word)) return { word: "noteBroken", values: {} };
  return { word, values: typeof values === "object" && values ? values : {} };
}

/** Returns conversations as a file: all branches, or those that are shown. */
export function toJson(conversations, { shown = false } = {}) {
  if (shown) conversations = conversations.map((one) => ({ ...one, others: [] }));
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 2);
}

/** Returns the conversations of a saved file, with new ids; throws if it is invalid. */
export function fromJson(text) {
  const data = JSON.parse(text);
  if (data.format !== FORMAT || data.version !== 1) throw new TypeError("another format");
  return data.conversations.map((conversation) => ({ ...check(conversation), id: identity() }));
}

export function toMarkdown(conversation) {
  const parts = [`# ${title(conversation)}`];
  if (conversation.system.trim()) parts.push(`*${words("system")}*`, quoted(conversation.system));
  let before = null;
  for (const message of conversation.messages) {
    if (message.role === "user")
      parts.push(
        `## ${words("you")}`,
        ...(message.pictures ?? []).map((url) => `![${words("picture")}](${url})`),
        message.content,
        ...(message.documents ?? []).map(({ name }) => `*${name}*`),
      );
    if (message.role === "tool") parts.push(`**${words("result")}** \`${message.name}\``, fenced(message.content), ...(message.shown ?? []).map((url) => `![${words("picture")}](${url})`));
    if (message.role === "assistant") {
      if (before?.role === "user") parts.push(`## ${words("reply")}`);
      if (message.reasoning_content) parts.push(`*${words("thought")}*`, quoted(message.reasoning_content));
      if (message.content.trim()) parts.push(message.content.trim());
      for (const { function: call } of message.tool_calls ?? [])
        parts.push(`**${words("calling")}** \`${call.name}\``, fenced(call.arguments));
    }
    before = message;
  }
  return `${parts.join("\n\n")}\n`;
}

function quoted(text) {
  return text.trim().split("\n").map((line) => `> ${line}`.trim()).join("\n");
}

function fenced(text) {
  const fence = "`".repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return `${fence}\n${text}\n${fence}`;
}

/** Returns a unique id. randomUUID is missing if the page is loaded from another machine by plain HTTP. */
export function identity() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
