// A reply in progress: the messages made from its events.

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
      const { call_id, name: tool, content, error } = data;
      this.messages.push({ role: "tool", tool_call_id: call_id, name: tool, content, ...(error ? { error } : {}) });
    }
    if (name === "finish") {
      const failed = new Set(this.messages.filter(({ error }) => error).map(({ tool_call_id }) => tool_call_id));
      const added = data.messages[0]?.role === "user" ? data.messages.slice(1) : data.messages;
      this.messages = [...structuredClone(this.before), ...added];
      for (const message of this.messages) if (failed.has(message.tool_call_id)) message.error = true;
      this.cite();
      const notes = { length: "noteLength", rounds: "noteRounds" };
      if (this.messages.length) this.messages.at(-1).usage = data.usage;
      if (data.reason in notes) this.note(notes[data.reason]);
    }
  }

  /** Ends an interrupted reply: removes calls without a result, and adds a note. */
  cut(word, values) {
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
    const part = new Reply(this.messages);
    part.sources = this.sources;
    part.cut("noteBroken");
    return part.messages;
  }

  /** Keeps what the reply was given of its documents with its first message. */
  cite() {
    if (this.sources && this.messages.length) this.messages[0].sources = this.sources;
  }

  note(word, values = {}) {
    if (this.messages.length) this.messages.at(-1).note = { word, values };
  }
}

/** Returns the events that correspond to the messages of a reply, to show it again. */
export function* events(messages) {
  for (const message of messages) {
    if (message.role === "tool") {
      const { tool_call_id, name, content, error } = message;
      yield { name: "tool_result", data: { call_id: tool_call_id, name, content, error: error ?? false } };
      continue;
    }
    if (message.sources) yield { name: "documents", data: message.sources };
    if (message.reasoning_content) yield { name: "reasoning", data: { text: message.reasoning_content } };
    if (message.content) yield { name: "text", data: { text: message.content } };
    for (const { id, function: call } of message.tool_calls ?? [])
      yield { name: "tool_call", data: { id, ...call, complete: true } };
  }
}
