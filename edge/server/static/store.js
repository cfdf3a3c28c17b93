// Conversations in the browser's own database. A store that is damaged, full or closed never breaks the page: `trouble`
// is called with a message, and the conversations of this tab stay in memory.

import { check } from "./conversation.js";

const NAME = "glm4-edge";
const TABLE = "conversations";

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
      await this.all(); // a database that opens may still be unreadable
    } catch {
      this.database = null;
      this.trouble("storeClosed");
    }
  }

  /** Returns all readable conversations, the latest first. */
  async all() {
    if (!this.database) return latest([...this.memory.values()]);
    const found = await done(this.table("readonly").getAll());
    const good = [];
    for (const value of found) {
      try {
        good.push(check(value));
      } catch {
        // Counted below.
      }
    }
    if (good.length < found.length) this.trouble("storeDamaged", { count: found.length - good.length });
    return latest(good);
  }

  async put(conversation) {
    this.memory.set(conversation.id, conversation);
    await this.write((table) => table.put(structuredClone(conversation)));
  }

  async remove(id) {
    this.memory.delete(id);
    await this.write((table) => table.delete(id));
  }

  async clear() {
    this.memory.clear();
    await this.write((table) => table.clear());
  }

  async write(change) {
    if (!this.database) return;
    try {
      const table = this.table("readwrite");
      const finished = new Promise((resolve, reject) => {
        table.transaction.addEventListener("complete", resolve);
        table.transaction.addEventListener("abort", () => reject(table.transaction.error));
      });
      change(table);
      table.transaction.commit(); // now: a transaction that waits for its requests is lost when the page closes
      await finished;
      this.others.postMessage(null);
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
    try {
      return localStorage.getItem(`${NAME}.${name}`) ?? "";
    } catch {
      return "";
    }
  },
  set(name, value) {
    try {
      if (value) localStorage.setItem(`${NAME}.${name}`, value);
      else localStorage.removeItem(`${NAME}.${name}`);
    } catch {
      // The settings last until the page is closed.
    }
  },
};

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
