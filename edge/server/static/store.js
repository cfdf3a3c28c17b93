// Conversations in the browser's own database, which all tabs of this page share. A store that is damaged, full or closed
// never breaks the page: `trouble` is called with a message, and the conversations of this tab stay in memory.
//
// The table has three kinds of entries: conversations; `{id, deleted}`, what is left of one that was deleted, so that no
// other tab writes it again; and parts `{id: CONVERSATION/REPLY, head, messages}`, a reply in progress with its question.

import { leaf, turns } from "./branches.js";
import { check, merge } from "./conversation.js";

const NAME = "glm4-edge";
const TABLE = "conversations";
const QUIET = "quiet"; // what a change returns of which other tabs need not hear
const REMEMBERED = 90 * 86_400_000; // milliseconds for which a deletion is remembered

export class Store {
  /** Calls `trouble(word, values)` after an error, and `changed()` after a change by another tab. */
  constructor(trouble, changed) {
    this.trouble = trouble;
    this.memory = new Map();
    this.database = null;
    this.others = new BroadcastChannel(NAME);
    this.others.addEventListener("message", () => changed());
  }

  async open() {
    try {
      const request = indexedDB.open(NAME, 1);
      request.addEventListener("upgradeneeded", () => request.result.createObjectStore(TABLE, { keyPath: "id" }));
      this.database = await done(request);
      this.database.addEventListener("versionchange", () => this.database.close());
      const { deleted, over } = await this.read(); // a database that opens may still be unreadable
      const old = [...deleted].filter(([, time]) => time < Date.now() - REMEMBERED).map(([id]) => id);
      if (old.length + over.length) await this.write((table) => [...old, ...over].forEach((id) => table.delete(id)));
    } catch {
      this.database = null;
      this.trouble("storeClosed");
    }
  }

  /** Returns all readable conversations, the latest first. */
  async all() {
    return (await this.read()).conversations;
  }

  /** Returns {conversations, deleted, over}: all readable conversations, the latest first; when others were deleted, by
   * id; and the ids of parts that nobody needs. */
  async read() {
    if (!this.database) return { conversations: latest([...this.memory.values()]), deleted: new Map(), over: [] };
    const found = new Map();
    const deleted = new Map();
    const parts = [];
    let damaged = 0;
    for (const value of await done(this.table("readonly").getAll())) {
      try {
        if (value.deleted) deleted.set(value.id, value.deleted);
        else if (value.head) parts.push({ id: value.id, head: check(value.head), part: check({ ...value.head, others: value.messages }) });
        else found.set(value.id, check(value));
      } catch {
        damaged++;
      }
    }
    if (damaged) this.trouble("storeDamaged", { count: damaged });
    const over = parts.filter(({ head, part }) => deleted.has(head.id) || !unite(found, head, part)).map(({ id }) => id);
    return { conversations: latest([...found.values()]), deleted, over };
  }

  /** Writes a conversation, together with what other tabs added to it. One that another tab deleted is not written,
   * unless it is to be restored. */
  async put(conversation, { restore = false } = {}) {
    this.memory.set(conversation.id, conversation);
    await this.write((table) => {
      const request = table.get(conversation.id);
      request.addEventListener("success", () => {
        const before = request.result;
        if (before?.deleted && !restore) return;
        const copy = structuredClone(conversation);
        try {
          if (before && !before.deleted) merge(copy, check(before));
        } catch {
          // What is damaged is replaced.
        }
        table.put(copy);
        const all = turns(copy);
        const keys = table.getAllKeys(partsOf(copy.id));
        keys.addEventListener("success", () => {
          for (const key of keys.result) if (all.get(key.slice(copy.id.length + 1))?.partial === false) table.delete(key);
        });
      });
    });
  }

  /** Writes a reply in progress, `messages` with its question, for a tab that is closed before the end. It reads nothing
   * first, and so is written even as the page is left. */
  async putPart(conversation, messages) {
    const { id } = conversation;
    const head = { ...conversation, messages: [], others: [] };
    await this.write((table) => {
      table.put(structuredClone({ id: `${id}/${messages.at(-1).turn}`, head, messages }));
      table.transaction.commit(); // now: a transaction that waits for its requests is lost when the page closes
      return QUIET;
    });
  }

  async remove(id) {
    this.memory.delete(id);
    await this.write((table) => {
      table.put({ id, deleted: Date.now() });
      table.delete(partsOf(id));
    });
  }

  /** Deletes everything, also what cannot be read. */
  async clear() {
    this.memory.clear();
    await this.write((table) => {
      const keys = table.getAllKeys();
      keys.addEventListener("success", () => {
        for (const id of keys.result) id.includes("/") ? table.delete(id) : table.put({ id, deleted: Date.now() });
      });
    });
  }

  async write(change) {
    if (!this.database) return;
    try {
      const table = this.table("readwrite");
      const finished = new Promise((resolve, reject) => {
        table.transaction.addEventListener("complete", resolve);
        table.transaction.addEventListener("abort", () => reject(table.transaction.error));
      });
      const quiet = change(table) === QUIET;
      await finished;
      if (!quiet) this.others.postMessage(null);
    } catch (error) {
      this.trouble(error?.name === "QuotaExceededError" ? "storeFull" : "storeClosed");
    }
  }

  table(mode) {
    return this.database.transaction(TABLE, mode).objectStore(TABLE);
  }
}

/** The settings of the page: short strings. */
export const settings = {
  get(name) {
    return attempt(() => localStorage.getItem(`${NAME}.${name}`)) ?? "";
  },
  set(name, value) {
    attempt(() => (value ? localStorage.setItem(`${NAME}.${name}`, value) : localStorage.removeItem(`${NAME}.${name}`)));
  },
};

/** What a tab comes back to: its own, or that of the last tab. */
export const place = {
  get(name) {
    return attempt(() => sessionStorage.getItem(`${NAME}.${name}`)) ?? settings.get(name);
  },
  set(name, value) {
    attempt(() => sessionStorage.setItem(`${NAME}.${name}`, value));
    settings.set(name, value);
  },
};

/** Without storage, what is set lasts until the page is closed. */
function attempt(use) {
  try {
    return use();
  } catch {
    return null;
  }
}

function partsOf(id) {
  return IDBKeyRange.bound(`${id}/`, `${id}/\uffff`);
}

/** Adds a reply in progress, with its question, to its conversation; returns false if it came to its end. */
function unite(found, head, part) {
  const whole = found.get(head.id) ?? head;
  const known = turns(whole);
  const end = leaf(whole);
  const [asked, reply] = [...turns(part).values()];
  if (known.get(reply?.id)?.partial === false) return false;
  found.set(head.id, whole);
  const next = known.has(asked.id) ? asked.id : asked.parent; // the turn after which it is shown
  merge(whole, part, reply && [next, asked.id].includes(end) ? reply.id : end === next ? asked.id : end);
  return true;
}

function latest(conversations) {
  return conversations.sort((one, other) => other.updated - one.updated);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
    request.addEventListener("blocked", () => reject(new Error("another tab holds it")));
  });
}
