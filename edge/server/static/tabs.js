// Other tabs with this page. A reply that is written in one is shown in all as it comes, can be stopped from each, and is
// kept by them if its own tab is closed.
//
// The tab that writes a reply sends its events, numbered; one that missed some asks for all. It holds a lock as long as it
// lives. Where a browser has no locks (a page of another machine by plain HTTP), a tab that no longer answers is gone.

const NAME = "glm4-edge.replies";
const SILENCE = 20_000; // milliseconds after which a tab is asked whether it still writes
const ANSWER = 10_000; // milliseconds that it has to answer

export class Tabs {
  /** Calls `shown(remote, event)` for each event of a reply in another tab, without one when it begins or its events were
   * read anew; `over(remote)` at its end; `gone(remote)` if its tab is closed before; and `stop(reply)`. */
  constructor(actions) {
    this.actions = actions;
    this.own = new Map(); // by reply: {reply, conversation, asked, events, count, release}
    this.remote = new Map(); // by reply: {reply, conversation, asked, events, count}
    this.channel = new BroadcastChannel(NAME);
    this.channel.addEventListener("message", ({ data }) => this.take(data));
    this.channel.postMessage({ kind: "ask" });
  }

  // The tab that writes.

  /** Begins a reply to the turn `asked`, or goes on with one that has these events. Others hear of it once the question is `stored`. */
  async begin(reply, conversation, asked, stored, events = []) {
    const own = { reply, conversation, asked, events, count: events.length, told: false, release: () => {} };
    this.own.set(reply, own);
    await stored;
    const begun = () => {
      if (!this.own.has(reply)) return null;
      own.told = true;
      this.tell(own);
      return new Promise((release) => (own.release = release));
    };
    if (navigator.locks) navigator.locks.request(lock(reply), begun).catch(() => {});
    else begun();
  }

  /** Adds an event. */
  write(reply, event) {
    const own = this.own.get(reply);
    own.count++;
    append(own.events, event);
    if (own.told) this.channel.postMessage({ kind: "event", reply, count: own.count, event });
  }

  end(reply) {
    const own = this.own.get(reply);
    this.own.delete(reply);
    this.channel.postMessage({ kind: "over", reply });
    own?.release();
  }

  /** Tells that this tab is being closed. */
  leave() {
    for (const reply of this.own.keys()) this.channel.postMessage({ kind: "gone", reply });
  }

  tell({ reply, conversation, asked, events, count }) {
    this.channel.postMessage({ kind: "all", reply, conversation, asked, events, count });
  }

  // The tabs that watch.

  /** The reply to that conversation which another tab writes. */
  writes(conversation) {
    return [...this.remote.values()].find((remote) => remote.conversation === conversation);
  }

  stop(reply) {
    this.channel.postMessage({ kind: "stop", reply });
  }

  take({ kind, reply, ...data }) {
    const remote = this.remote.get(reply);
    if (remote) remote.heard = Date.now();
    if (kind === "ask") for (const own of this.own.values()) own.told && this.tell(own);
    else if (kind === "stop" && this.own.has(reply)) this.actions.stop(reply);
    else if (kind === "all") this.begun({ reply, ...data }, remote);
    else if (kind === "event") this.event(remote, data);
    else if (kind === "over" && remote) this.finish(remote, "over");
    else if (kind === "gone" && remote) this.finish(remote, "gone");
  }

  begun(data, before) {
    const remote = { ...data, heard: Date.now(), watch: before?.watch ?? new AbortController() };
    this.remote.set(remote.reply, remote);
    if (!before) this.watch(remote);
    this.actions.shown(remote);
  }

  event(remote, { count, event }) {
    if (remote && count <= remote.count) return;
    if (remote?.count !== count - 1) return this.channel.postMessage({ kind: "ask" });
    remote.count = count;
    append(remote.events, event);
    this.actions.shown(remote, event);
  }

  finish(remote, how) {
    this.remote.delete(remote.reply);
    remote.watch.abort();
    this.actions[how](remote);
  }

  /** Waits for the end of the tab that writes. */
  watch({ reply, watch }) {
    const gone = () => this.remote.has(reply) && this.finish(this.remote.get(reply), "gone");
    if (navigator.locks) return navigator.locks.request(lock(reply), { signal: watch.signal }, gone).catch(() => {});
    const timer = setInterval(() => {
      const silent = Date.now() - (this.remote.get(reply)?.heard ?? 0);
      if (silent > SILENCE + ANSWER) gone();
      else if (silent > SILENCE) this.channel.postMessage({ kind: "ask" });
    }, ANSWER / 2);
    watch.signal.addEventListener("abort", () => clearInterval(timer));
  }
}

function lock(reply) {
  return `${NAME}.${reply}`;
}

const GROWING = { text: "text", reasoning: "text", tool_call_delta: "arguments" };

/** Adds an event to a list; a piece of a text to the piece before it, so that the list stays short. */
function append(events, event) {
  const last = events.at(-1);
  const field = GROWING[event.name];
  if (field && last?.name === event.name && last.data.id === event.data.id) {
    events[events.length - 1] = { name: event.name, data: { ...event.data, [field]: last.data[field] + event.data[field] } };
  } else events.push(event);
}
