// The server's answers: the facts of the page, and the events of a reply (docs/server.md has both).

const KEY = "glm4-edge.key";
let key = "";

/** A rejected request or a lost connection; `word` is the key of the message in words.js. */
export class Refusal extends Error {
  constructor(word, values = {}) {
    super(word);
    this.word = word;
    this.values = values;
  }
}

/** The server's API key, stored until the tab is closed. */
export function useKey(text) {
  key = text.trim();
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Without storage it lasts until the page is closed.
  }
}

/** Loads the key of this tab, or of an address that ends with #key=…, which is removed from the address. */
export function findKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    history.replaceState(null, "", location.pathname);
    useKey(given);
    return;
  }
  try {
    key = sessionStorage.getItem(KEY) ?? "";
  } catch {
    key = "";
  }
}

/** Models, tools, and whether this is a kiosk. */
export async function facts() {
  return (await answer("chat", {})).json();
}

/** The text of a document, as the server reads it: {name, sections, notes}. */
export async function readDocument(file, signal) {
  const options = { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file, signal };
  return (await answer(`chat/document?name=${encodeURIComponent(file.name)}`, options)).json();
}

/** The text of a recording: {text}. */
export async function transcribe(recording, signal) {
  const options = { method: "POST", headers: { "Content-Type": "audio/wav" }, body: recording, signal };
  return (await answer("chat/transcription", options)).json();
}

/** A text as speech: the content of a WAV file. */
export async function speech(text, signal) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }), signal };
  return (await answer("chat/speech", options)).arrayBuffer();
}

/** The events of a reply, {name, data} each, to its finish. Aborting the signal stops the model. */
export async function* ask(body, signal) {
  const response = await answer("chat", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const found = /^event: (\w+)\ndata: (.*)$/s.exec(event);
        if (!found) continue;
        const [, name, text] = found;
        const data = JSON.parse(text);
        if (name === "error") throw refusal(0, data, 0);
        yield { name, data };
        if (name === "finish") return;
      }
    }
  } catch (error) {
    if (error instanceof Refusal || signal.aborted) throw error;
    throw new Refusal("errorBroken");
  }
  if (!signal.aborted) throw new Refusal("errorBroken");
}

async function answer(path, options) {
  let response;
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refusal("errorGone");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw refusal(response.status, body.error ?? {}, Number(response.headers.get("Retry-After")));
}

function refusal(status, { message, code }, retry) {
  if (status === 401) return new Refusal(key ? "keyWrong" : "keyAsked");
  if (status === 429 || code === "queue_full") return new Refusal("errorBusy", { seconds: retry || 5 });
  if (status === 413) return new Refusal("errorLarge");
  if (code === "context_length_exceeded") return new Refusal("errorLong");
  if (code === "stopping") return new Refusal("errorStopping");
  return new Refusal("errorOther", { message: message ?? `HTTP ${status}` });
}
