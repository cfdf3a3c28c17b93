// The page: the conversation on the screen, and the replies in progress.

import { Composer } from "./composer.js";
import { begin, fromJson, request, title, toJson, toMarkdown } from "./conversation.js";
import { h, iconButton, say } from "./element.js";
import { Idle, inLanguage, kioskTop, stay, waiting } from "./kiosk.js";
import { Reply } from "./reply.js";
import { Settings, paint } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store, settings } from "./store.js";
import { Refusal, ask, facts as readFacts, findKey, useKey } from "./stream.js";
import { Thread, greeting } from "./thread.js";
import { speak, words } from "./words.js";

const $ = (id) => document.getElementById(id);
const KEEP = 2000; // milliseconds between two saves of a reply in progress

class Page {
  constructor(facts) {
    this.facts = facts;
    this.kiosk = facts.kiosk;
    this.writing = new Map(); // by conversation: {reply, turn, abort, kept}
    this.conversations = [];
    this.current = begin();
    this.composer = new Composer(
      $("dock"),
      {
        send: (text, attached) => this.send(text, attached),
        stop: () => this.stop(),
        trouble: (word, values) => this.toast(word, values),
        typed: (text) => this.typed?.(text),
        failed: (name, { word, values }) => this.toast("documentFailed", { name, reason: words(word, values) }, { stays: true }),
      },
      facts.documents,
    );
    this.thread = new Thread(
      $("thread"),
      $("scroller"),
      { change: (index, text) => this.change(index, text), again: () => this.again() },
      { still: Boolean(this.kiosk) },
    );
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open], [popover]:popover-open, .editing")) this.stop();
    });
  }

  // The display.

  show(conversation) {
    this.current = conversation;
    this.thread.show(conversation, () => this.greeting());
    const written = this.writing.get(conversation.id);
    if (written) this.thread.add(written.turn.element);
    this.drawn();
  }

  /** Builds the elements around the conversation. */
  drawn() {
    const busy = this.writing.has(this.current.id);
    this.composer.busy = busy;
    this.thread.busy = busy;
    this.composer.pictures.allow(this.readsPictures);
    this.around?.();
  }

  /** Whether the conversation's model reads pictures. */
  get readsPictures() {
    const { models } = this.facts;
    return (models.find(({ name }) => name === this.current.model) ?? models[0])?.pictures ?? false;
  }

  greeting() {
    const suggestions = this.kiosk ? inLanguage(this.kiosk.suggestions) || [] : [];
    return greeting({ facts: this.facts, suggestions, suggest: (text) => this.send(text) });
  }

  notice(element) {
    this.composer.notice.replaceChildren(element);
  }

  /** Shows a line above the field until it is closed, or for a while. `act` is [word, listener]. */
  toast(word, values, { act, stays = false } = {}) {
    const close = () => line.remove();
    const line = h(
      "div",
      { class: "notice", role: stays ? "alert" : "status" },
      h("span", { t: word, values }),
      act ? h("button", { type: "button", class: "button", t: act[0], on: { click: () => (close(), act[1]()) } }) : null,
      iconButton("close", "close", close),
    );
    this.notice(line);
    if (!stays) setTimeout(close, 10_000);
  }

  // Messages and replies.

  send(text, attached = {}) {
    if (this.writing.has(this.current.id)) return this.composer.text || (this.composer.text = text);
    this.current.messages.push(question(text, attached));
    this.write(this.current);
  }

  change(index, text) {
    this.current.messages.splice(index, Infinity, question(text, this.current.messages[index]));
    this.write(this.current);
  }

  again() {
    const last = this.current.messages.findLastIndex(({ role }) => role === "user");
    if (last < 0 || this.writing.has(this.current.id)) return;
    this.current.messages.splice(last + 1);
    this.write(this.current);
  }

  stop() {
    this.writing.get(this.current.id)?.abort.abort();
  }

  /** Requests the reply to the last message. */
  async write(conversation) {
    const asked = conversation.messages.at(-1);
    delete asked.note;
    const written = { reply: new Reply(), turn: this.thread.reply(), abort: new AbortController(), kept: Date.now() };
    const body = request(conversation, this.facts.models);
    this.writing.set(conversation.id, written);
    this.kept(conversation);
    this.show(conversation);
    const { reply, turn, abort } = written;
    let failure = null;
    try {
      for await (const event of ask(body, abort.signal)) {
        if (event.name === "documents") asked.sent = event.data.content;
        reply.take(event);
        turn.take(event);
        if (Date.now() - written.kept > KEEP) this.keepPart(conversation, written);
      }
    } catch (error) {
      if (!abort.signal.aborted && !(error instanceof Refusal)) console.error(error);
      failure = error instanceof Refusal ? error : new Refusal("noteBroken");
      if (abort.signal.aborted) failure = new Refusal("noteStopped");
      reply.cut(this.kiosk && failure.word !== "noteStopped" ? "kioskTrouble" : failure.word, failure.values);
    }
    this.writing.delete(conversation.id);
    if (written.gone) return;
    conversation.messages.push(...reply.messages);
    if (failure && !reply.messages.length) {
      const word = this.kiosk && failure.word !== "noteStopped" ? "kioskTrouble" : failure.word;
      asked.note = { word, values: failure.values };
    }
    await this.kept(conversation);
    turn.finish(reply.messages.at(-1));
    if (this.current.id === conversation.id) {
      if (!reply.messages.length) this.show(conversation);
      this.drawn();
      if (document.activeElement === document.body) this.composer.focus();
      const text = reply.messages.at(-1)?.content.slice(0, 2000) ?? "";
      const heard = failure ? (failure.word === "noteStopped" ? "stoppedAloud" : failure.word) : "repliedAloud";
      $("spoken").textContent = words(heard, { text, ...failure?.values });
    }
    if (failure && failure.word.startsWith("key")) this.askKey(failure.word, () => this.again());
  }

  // Storage.

  async kept(conversation) {
    conversation.updated = Date.now();
    this.conversations = [conversation, ...this.conversations.filter(({ id }) => id !== conversation.id)];
    this.around?.();
    await this.store?.put(conversation);
  }

  /** Stores an incomplete reply, in case the page is closed before its end. */
  keepPart(conversation, written) {
    written.kept = Date.now();
    const part = new Reply();
    part.messages = structuredClone(written.reply.messages);
    part.cut("noteBroken");
    this.store?.put({ ...conversation, messages: [...conversation.messages, ...part.messages] });
  }

  /** Prompts for the API key, and continues with it. */
  askKey(word, then) {
    const field = h("input", { class: "field", type: "password", autocomplete: "off", "t-label": "key" });
    const form = h(
      "form",
      { class: "notice key", on: { submit: (event) => {
        event.preventDefault();
        useKey(field.value);
        form.remove();
        then();
      } } },
      h("span", { t: word }),
      field,
      h("button", { type: "submit", class: "button strong", t: "keyUse" }),
    );
    this.notice(form);
    field.focus();
  }
}

/** The page for personal use: stored conversations, and all settings. */
async function desk(page) {
  const heading = h("h1", { class: "title" });
  const models = h("select", { class: "field model", "t-label": "model", on: { change: () => set("model", models.value) } });
  models.append(...page.facts.models.map(({ name }) => h("option", { value: name }, name)));
  const saving = h(
    "div",
    { id: "saving", class: "menu", popover: "auto" },
    h("button", { type: "button", t: "exportMarkdown", on: { click: () => save("md") } }),
    h("button", { type: "button", t: "exportJson", on: { click: () => save("json") } }),
  );
  const sidebar = new Sidebar($("sidebar"), {
    begin: () => (fresh(), page.composer.focus()),
    open: (id) => page.show(page.conversations.find((one) => one.id === id)),
    rename: (id, name) => rename(id, name),
    remove: (id) => remove(id),
    settings: () => dialog.open(page.current),
  });
  const dialog = new Settings(page.facts, {
    changed: (name, value) => set(name, value),
    exportAll: () => download("glm4-edge.json", "application/json", toJson(page.conversations)),
    load: (file) => load(file),
    removeAll: () => removeAll(),
    count: () => page.conversations.length,
  });
  $("top").replaceChildren(
    iconButton("menu", "menu", () => sidebar.toggle(), { class: "icon-button only-narrow" }),
    heading,
    page.facts.models.length > 1 ? models : h("span", { class: "hint model" }, page.facts.models[0]?.name ?? ""),
    iconButton("share", "export", () => {}, { popovertarget: "saving", class: "icon-button share" }),
    saving,
    iconButton("gear", "settings", () => dialog.open(page.current)),
    iconButton("plus", "newChat", () => (fresh(), page.composer.focus()), { class: "icon-button only-narrow" }),
  );
  $("shade").addEventListener("click", () => sidebar.shut());

  page.around = () => {
    sidebar.show(page.conversations, page.current.id);
    const name = title(page.current);
    if (name) (delete heading.dataset.t, (heading.textContent = name));
    else say(heading, "untitled");
    document.title = name ? `${name} · glm4-edge` : "glm4-edge";
    models.value = page.current.model || page.facts.models[0]?.name;
    page.composer.pictures.allow(page.readsPictures);
    document.querySelector(".share").disabled = !page.current.messages.length;
    settings.set("current", page.conversations.includes(page.current) ? page.current.id : "");
  };

  page.store = new Store(
    (word, values) => page.toast(word, values, { stays: true }),
    async () => {
      const found = await page.store.all();
      page.conversations = found.map((one) => (page.writing.has(one.id) ? page.conversations.find(({ id }) => id === one.id) : one));
      const shown = page.conversations.find(({ id }) => id === page.current.id);
      if (shown && shown !== page.current && !page.writing.has(shown.id) && shown.updated !== page.current.updated) page.show(shown);
      else page.around();
    },
  );
  await page.store.open();
  page.conversations = await page.store.all().catch(() => []);
  page.composer.text = settings.get("draft");
  const draft = () => settings.set("draft", page.composer.text);
  let soon = null;
  page.typed = () => {
    clearTimeout(soon);
    soon = setTimeout(draft, 300);
  };
  const last = page.conversations.find(({ id }) => id === settings.get("current"));
  if (last) page.show(last);
  else fresh();
  if (matchMedia("(hover: hover)").matches) page.composer.focus(); // on a phone the keyboard would jump up
  addEventListener("pagehide", () => {
    draft();
    for (const [id, written] of page.writing) page.keepPart(page.conversations.find((one) => one.id === id), written);
  });

  function fresh() {
    page.show(begin(page.conversations[0]));
  }

  function set(name, value) {
    page.current[name] = value;
    if (page.conversations.includes(page.current)) page.store.put(page.current);
    page.around();
  }

  function rename(id, name) {
    const one = page.conversations.find((other) => other.id === id);
    one.title = name;
    page.store.put(one);
    page.around();
  }

  async function remove(id) {
    const one = page.conversations.find((other) => other.id === id);
    const written = page.writing.get(id);
    if (written) (written.gone = true, written.abort.abort());
    page.conversations = page.conversations.filter((other) => other !== one);
    await page.store.remove(id);
    if (page.current === one) fresh();
    else page.around();
    page.toast("removed", { title: title(one) || words("untitled") }, { act: ["undo", async () => {
      page.conversations = [...page.conversations, one].sort((a, b) => b.updated - a.updated);
      await page.store.put(one);
      page.show(one);
    }] });
  }

  async function removeAll() {
    for (const written of page.writing.values()) (written.gone = true, written.abort.abort());
    page.conversations = [];
    await page.store.clear();
    page.show(begin());
  }

  async function load(file) {
    try {
      const found = fromJson(await file.text());
      page.conversations = [...found, ...page.conversations].sort((a, b) => b.updated - a.updated);
      for (const one of found) await page.store.put(one);
      page.around();
      page.toast("imported", { count: found.length });
    } catch {
      page.toast("importWrong", { name: file.name }, { stays: true });
    }
  }

  function save(kind) {
    saving.hidePopover();
    const name = (title(page.current) || "chat").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "chat";
    if (kind === "md") download(`${name}.md`, "text/markdown", toMarkdown(page.current));
    else download(`${name}.json`, "application/json", toJson([page.current]));
  }
}

/** The page of a public screen. */
function publicly(page) {
  const { facts } = page;
  document.documentElement.dataset.kiosk = "";
  speak(facts.kiosk.language);
  stay();
  const mark = kioskTop($("top"), facts, { again: () => wipe(), turned: () => turned() });
  $("sidebar").remove();
  page.composer.field.maxLength = 2000;
  page.show(page.current);
  new Idle(facts.kiosk.idle, {
    wipe: () => wipe(),
    untouched: () => !page.current.messages.length && !page.composer.text,
    busy: () => page.writing.size > 0,
  });

  function turned() {
    mark();
    if (!page.current.messages.length) page.show(page.current);
  }

  async function wipe() {
    for (const written of page.writing.values()) (written.gone = true, written.abort.abort());
    page.writing.clear();
    page.composer.text = "";
    page.composer.pictures.take();
    page.composer.notice.replaceChildren();
    $("spoken").textContent = "";
    speak(facts.kiosk.language);
    page.show(begin());
    mark();
    document.activeElement?.blur();
    const now = await reached();
    if (now.version !== facts.version) location.reload();
  }
}

/** A user's message with what is attached to it. */
function question(text, { pictures = [], documents = [] }) {
  return { role: "user", content: text, ...(pictures.length ? { pictures } : {}), ...(documents.length ? { documents } : {}) };
}

/** Downloads a text as a file. */
function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Returns the server's facts; waits until the server answers. */
async function reached() {
  let veil = null;
  for (;;) {
    try {
      const facts = await readFacts();
      veil?.remove();
      return facts;
    } catch (error) {
      if (!(error instanceof Refusal) || error.word.startsWith("key")) throw error;
      if (!veil) document.body.append((veil = waiting()));
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

async function main() {
  findKey();
  paint(settings.get("theme"));
  speak(settings.get("language"));
  try {
    const facts = await reached();
    const page = new Page(facts);
    await (facts.kiosk ? publicly(page) : desk(page));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    locked(error.word);
  }
  document.documentElement.dataset.ready = "";
}

/** The page without a valid API key. */
function locked(word) {
  const field = h("input", { class: "field", type: "password", autocomplete: "off", "t-label": "key" });
  const form = h(
    "form",
    { class: "greeting locked", on: { submit: (event) => (event.preventDefault(), useKey(field.value), location.reload()) } },
    h("h1", { t: "key" }),
    h("p", { t: word, role: word === "keyWrong" ? "alert" : null }),
    h("div", { class: "row" }, field, h("button", { type: "submit", class: "button strong", t: "keyUse" })),
    h("p", { class: "hint", t: "keyHint" }),
  );
  document.documentElement.classList.add("is-locked");
  $("thread").replaceChildren(form);
  field.focus();
}

await main();
