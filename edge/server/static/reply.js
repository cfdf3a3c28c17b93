// A reply in progress: the messages made from its events.

const NEARLY_FULL = 0.85; // of the context

export class Reply {
  /** `before` are the messages of a reply that goes on. */
  constructor(before = []) {
    this.before = before;
    this.messages = structuredClone(before);
  }

  /** Returns the assistant's current message; a tool's result is followed by a new one. */
  get open() {
    if (this.messages.at(-1)?.role !== "assistant") this.messages.push({ role: "assistant", content: "" });
    return this.messages.at(-1);
  }

  take({ name, data }) {
    if (name === "dropped" && Number.isInteger(data.dropped)) this.dropped = data.dropped;
    if (name === "documents") this.sources = { citations: data.citations, whole: data.whole, notes: data.notes };
    if (name === "text") this.open.content += data.text;
    if (name === "reasoning") this.open.reasoning_content = (this.open.reasoning_content ?? "") + data.text;
    if (name === "tool_call" && data.complete)
      (this.open.tool_calls ??= []).push({
        id: data.id,
        type: "function",
        function: { name: data.name, arguments: data.arguments },
      });
    if (name === "tool_result") {
      const { call_id, name: tool, content, error, pictures = [], citations = [] } = data;
      this.messages.push({
        role: "tool",
        tool_call_id: call_id,
        name: tool,
        content,
        ...(error ? { error } : {}),
        ...(pictures.length ? { shown: pictures } : {}),
        ...(citations.length ? { citations } : {}),
      });
    }
    if (name === "finish") {
      const results = new Map(this.messages.filter(({ role }) => role === "tool").map((one) => [one.tool_call_id, one]));
      const added = data.messages[0]?.role === "user" ? data.messages.slice(1) : data.messages;
      this.messages = [...structuredClone(this.before), ...added.map((message) => ({ ...message, ...textOf(message) }))];
      for (const message of this.messages) {
        const { error, shown, citations } = results.get(message.tool_call_id) ?? {};
        for (const [field, value] of Object.entries({ error, shown, citations })) if (value) message[field] = value;
      }
      this.cite();
      const notes = { length: "noteLength", rounds: "noteRounds" };
      if (this.messages.length) this.messages.at(-1).usage = data.usage;
      if (this.messages.length && data.context_used >= NEARLY_FULL && !this.dropped) this.messages.at(-1).full = data.context_used;
      if (data.reason in notes) this.note(notes[data.reason]);
    }
  }

  /** Ends an interrupted reply: removes calls without a result, and adds a note. */
  cut(word, values) {
    if (this.messages.length === this.before.length) return this.note(word, values); // its calls still wait
    const answered = new Set(this.messages.map(({ tool_call_id }) => tool_call_id));
    for (const message of this.messages) {
      const kept = message.tool_calls?.filter(({ id }) => answered.has(id));
      if (kept?.length) message.tool_calls = kept;
      else delete message.tool_calls;
    }
    this.messages = this.messages.filter(
      (message) => message.role === "tool" || message.content || message.reasoning_content || message.tool_calls,
    );
    this.cite();
    this.note(word, values);
  }

  /** Returns the messages so far, as they are kept in case that the page is closed before the end. */
  part() {
    const part = new Reply();
    Object.assign(part, { messages: structuredClone(this.messages), sources: this.sources, dropped: this.dropped });
    part.cut("noteBroken");
    return part.messages;
  }

  /** Keeps with the first message what the reply was given of its documents, and how many messages no longer fit. */
  cite() {
    const [first] = this.messages;
    if (first && this.sources) first.sources = this.sources;
    if (first && this.dropped) first.dropped = this.dropped;
  }

  note(word, values = {}) {
    if (this.messages.length) this.messages.at(-1).note = { word, values };
  }
}

/** Returns the text of a message whose content has parts, as a result with pictures; the parts go back as they are. */
function textOf({ content }) {
  if (!Array.isArray(content)) return {};
  return { content: content.filter(({ type }) => type === "text").map(({ text }) => text).join("\n"), parts: content };
}

/** Returns the events that correspond to the messages of a reply, to show it again. */
export function* events(messages) {
  for (const message of messages) {
    if (message.role === "tool") {
      const { tool_call_id, name, content, error, shown, citations } = message;
      yield { name: "tool_result", data: { call_id: tool_call_id, name, content, error: error ?? false, pictures: shown, citations } };
      continue;
    }
    if (message.sources) yield { name: "documents", data: message.sources };
    if (message.reasoning_content) yield { name: "reasoning", data: { text: message.reasoning_content } };
    if (message.content) yield { name: "text", data: { text: message.content } };
    for (const { id, function: call } of message.tool_calls ?? [])
      yield { name: "tool_call", data: { id, ...call, complete: true } };
  }
}
