// The page: the conversation on the screen, and the replies in progress.

import { Reader } from "./aloud.js";
import { waitingCalls } from "./approval.js";
import { addTurn, choose, cutBefore, leaf, mark, turns } from "./branches.js";
import { Composer } from "./composer.js";
import { begin, change, fromJson, identity, isOn, merge, request, title, toJson, toMarkdown } from "./conversation.js";
import { h, iconButton, say } from "./element.js";
import { Idle, inLanguage, kioskTop, stay, waiting } from "./kiosk.js";
import { Microphone, canRecord } from "./microphone.js";
import { Models } from "./models.js";
import { Reply, events } from "./reply.js";
import { Settings, paint } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store, place, settings } from "./store.js";
import { Refusal, ask, facts as readFacts, findKey, useKey } from "./stream.js";
import { Tabs } from "./tabs.js";
import { Thread, greeting } from "./thread.js";
import { speak, words } from "./words.js";

const $ = (id) => document.getElementById(id);
const KEEP = 2000; // milliseconds between two saves of a reply in progress

class Page {
  constructor(facts) {
    this.facts = facts;
    this.kiosk = facts.kiosk;
    this.writing = new Map(); // by conversation: {id, asked, reply, turn, abort, kept}, a reply that this tab writes
    this.always = new Map(); // by conversation: the tools whose calls run without a question, until the page is closed
    this.written = new Set(); // the turns that this tab wrote
    this.conversations = [];
    this.current = begin();
    const { transcribes, speaks } = facts.voice;
    const trouble = (word, values) => this.toast(word, values);
    this.reader = speaks ? new Reader({ trouble }) : null;
    this.microphone = transcribes && canRecord() ? new Microphone({ said: (text) => this.said(text), trouble, began: () => this.reader?.stop() }) : null;
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
      this.microphone?.element,
    );
    this.thread = new Thread(
      $("thread"),
      $("scroller"),
      { change: (turn, text) => this.change(turn, text), again: () => this.again(), pick: (turn) => this.pick(turn), decide: (decided) => this.decide(decided) },
      { still: Boolean(this.kiosk), reader: this.reader },
    );
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open], [popover]:popover-open, .editing")) this.stop();
    });
  }

  // The display.

  show(conversation) {
    if (conversation.id !== this.current.id) this.reader?.stop();
    this.current = conversation;
    this.thread.show(conversation, () => this.greeting(), this.live);
    this.drawn();
  }

  /** Builds the elements around the conversation. */
  drawn() {
    const busy = Boolean(this.live);
    this.composer.busy = busy;
    this.thread.busy = busy;
    this.composer.pictures.allow(this.readsPictures);
    this.around?.();
  }

  /** The reply in progress that the conversation on the screen ends with, of this tab or another: {id, turn}. */
  get live() {
    const own = this.writing.get(this.current.id);
    if (own) return Object.assign(own, { dropped: own.reply.dropped });
    const remote = this.tabs?.writes(this.current.id);
    if (!remote || ![remote.asked, remote.reply].includes(leaf(this.current))) return null;
    if (!remote.turn) {
      remote.turn = this.thread.reply();
      for (const event of remote.events) remote.turn.take(event);
    }
    const dropped = remote.events.findLast(({ name }) => name === "dropped")?.data.dropped;
    return { id: remote.reply, turn: remote.turn, dropped, remote };
  }

  /** Whether the conversation's model reads pictures. */
  get readsPictures() {
    const { models } = this.facts;
    return (models.find(({ name }) => name === this.current.model) ?? models[0])?.pictures ?? false;
  }

  greeting() {
    const suggestions = this.kiosk ? inLanguage(this.kiosk.suggestions) || [] : [];
    const tools = this.facts.tools.filter((tool) => isOn(this.current, tool));
    return greeting({ facts: { ...this.facts, tools }, suggestions, suggest: (text) => this.send(text) });
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
    if (this.live) return this.composer.text || (this.composer.text = text);
    this.ask(question(text, attached));
  }

  /** Takes what a person said: a kiosk sends it, else it is text to correct. */
  said(text) {
    if (this.kiosk && !this.live) return this.send(text);
    this.composer.add(text);
    this.composer.focus();
  }

  /** Sends another version of a question. */
  change(turn, text) {
    if (this.live) return;
    const [before] = turns(this.current).get(turn).messages;
    cutBefore(this.current, turn);
    this.ask(question(text, before));
  }

  /** Adds a question to the conversation, and requests the reply. */
  ask(message) {
    this.reader?.stop();
    addTurn(this.current, mark([message], { turn: identity(), parent: leaf(this.current) }));
    this.thread.end();
    this.write(this.current);
  }

  /** Requests another version of the last reply. */
  again() {
    const { messages } = this.current;
    if (this.live || !messages.length) return;
    const before = leaf(this.current);
    if (messages.at(-1).role !== "user") cutBefore(this.current, before);
    if (messages.length) this.write(this.current, { before });
  }

  /** Shows another version of a turn. */
  pick(turn) {
    if (this.live) return;
    choose(this.current, turn);
    this.written.add(leaf(this.current)); // other tabs do not change what was chosen here
    this.show(this.current);
    this.store?.put(this.current);
  }

  stop() {
    const { live } = this;
    if (live?.remote) this.tabs.stop(live.id);
    else live?.abort.abort();
  }

  /** Goes on with the last reply after decisions on its calls. */
  decide({ decisions, always }) {
    const { id, messages } = this.current;
    const reply = turns(this.current).get(leaf(this.current));
    const asked = messages.findLast(({ role }) => role === "user");
    if (this.live || reply.role !== "reply" || !asked) return;
    this.always.set(id, new Set([...(this.always.get(id) ?? []), ...always]));
    this.write(this.current, { decisions, reply });
  }

  /** Requests the reply to the last message; or, with `decisions`, what follows in a `reply`. If none comes, the reply
   * `before` is shown again. */
  async write(conversation, { before = "", decisions = null, reply: begun = null } = {}) {
    const asked = conversation.messages.findLast(({ role }) => role === "user");
    delete asked.note;
    mark([asked], asked);
    const written = { id: begun?.id ?? identity(), asked, reply: new Reply(begun?.messages), turn: this.thread.reply(), abort: new AbortController(), at: begun?.at ?? Date.now(), kept: Date.now() };
    const body = request(conversation, this.facts, { decisions, always: [...(this.always.get(conversation.id) ?? [])] });
    const earlier = [...events(begun?.messages ?? [])];
    for (const event of earlier) written.turn.take(event);
    this.writing.set(conversation.id, written);
    this.written.add(asked.turn).add(written.id);
    const stored = this.kept(conversation);
    this.tabs?.begin(written.id, conversation.id, asked.turn, stored, earlier);
    this.show(conversation);
    const { reply, turn, abort } = written;
    let failure = null;
    this.models?.watch(conversation.model, () => written.heard, (found) => turn.loading(found));
    try {
      for await (const event of ask(body, abort.signal)) {
        written.heard = true;
        if (event.name === "documents") asked.sent = event.data.content;
        reply.take(event);
        turn.take(event);
        this.tabs?.write(written.id, event);
        if (event.name === "dropped" && conversation === this.current) this.show(conversation);
        if (Date.now() - written.kept > KEEP) this.keepPart(conversation, written);
      }
    } catch (error) {
      if (!abort.signal.aborted && !(error instanceof Refusal)) console.error(error);
      failure = error instanceof Refusal ? error : new Refusal("noteBroken");
      if (abort.signal.aborted) failure = new Refusal("noteStopped");
      reply.cut(this.kiosk && failure.word !== "noteStopped" ? "kioskTrouble" : failure.word, failure.values);
    }
    written.heard = true;
    await this.finish(conversation, written, failure, before);
  }

  /** Adds a reply to its conversation, or the reason why there is none to its question. */
  async finish(conversation, { id, asked, at, reply, turn, gone }, failure, before) {
    this.writing.delete(conversation.id);
    if (gone) return this.tabs?.end(id);
    const word = this.kiosk && failure && failure.word !== "noteStopped" ? "kioskTrouble" : failure?.word;
    const last = reply.messages.at(-1);
    if (last) {
      addTurn(conversation, mark(reply.messages, { turn: id, parent: asked.turn, at }));
      if (!waitingCalls(reply.messages).length) this.thread.keep(id, last.rev, turn.element);
    } else {
      if (failure) asked.note = { word, values: failure.values };
      if (before) choose(conversation, before);
    }
    mark([asked], asked);
    await this.kept(conversation);
    this.tabs?.end(id);
    turn.finish(reply.messages);
    if (this.facts.voice.read_aloud && last && !failure && turn.aloud) this.reader.read(turn.aloud, turn.body);
    if (this.current.id === conversation.id) {
      this.show(conversation);
      if (document.activeElement === document.body) this.composer.focus();
      const text = last?.content.slice(0, 2000) ?? "";
      const heard = failure ? (failure.word === "noteStopped" ? "stoppedAloud" : failure.word) : "repliedAloud";
      $("spoken").textContent = words(heard, { text, ...failure?.values });
    }
    if (failure && failure.word.startsWith("key")) this.askKey(failure.word, () => this.again());
  }

  // Other tabs.

  /** Shows what other tabs changed. */
  async refresh() {
    const { conversations, deleted } = await this.store.read();
    const known = new Map(this.conversations.map((one) => [one.id, one]));
    for (const one of conversations) {
      const mine = known.get(one.id);
      if (!mine) known.set(one.id, one);
      else merge(mine, one, this.keeps(mine, one) ? leaf(mine) : leaf(one));
    }
    for (const id of deleted.keys()) {
      const written = this.writing.get(id);
      if (written) (written.gone = true), written.abort.abort();
      known.delete(id);
    }
    this.conversations = [...known.values()].sort((one, other) => other.updated - one.updated);
    if (deleted.has(this.current.id)) return this.left(this.current);
    if (this.current.messages.length) this.show(this.current);
    else this.around();
  }

  /** Whether this tab goes on to show its own branch: it wrote that, and the other copy does not continue it. */
  keeps(mine, other) {
    if (this.writing.has(mine.id)) return true;
    const end = leaf(mine);
    return this.written.has(end) && !other.messages.some(({ turn }) => turn === end);
  }

  /** A reply of another tab goes on. */
  shown(remote, event) {
    if (event?.name === "dropped" && remote.turn?.element.isConnected) this.show(this.current);
    if (event) return remote.turn?.take(event);
    if (remote.conversation === this.current.id) this.refresh();
  }

  /** The tab that wrote a reply is closed: what came of it is kept here. */
  async gone({ reply: id, conversation: of, asked, events }) {
    await this.refresh();
    const conversation = this.conversations.find((one) => one.id === of);
    const question = conversation && turns(conversation).get(asked);
    const reply = new Reply();
    for (const event of events) reply.take(event);
    const part = mark(reply.part(), { turn: id, parent: asked, partial: true });
    if (!question || !part.length) return;
    await this.store.putPart(conversation, [...question.messages, ...part]);
    await this.refresh();
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
    const { id, asked, at, reply } = written;
    this.store?.putPart(conversation, [asked, ...mark(reply.part(), { turn: id, parent: asked.turn, at, partial: true })]);
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
  const models = new Models(page.facts, (name) => set("model", name));
  page.models = models;
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
    models.element,
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
    models.show(page.current.model);
    page.composer.pictures.allow(page.readsPictures);
    document.querySelector(".share").disabled = !page.current.messages.length;
    place.set("current", page.conversations.includes(page.current) ? page.current.id : "");
  };

  page.store = new Store((word, values) => page.toast(word, values, { stays: true }), () => page.refresh());
  await page.store.open();
  const found = await page.store.all().catch(() => []);
  const early = new Set(page.conversations.map(({ id }) => id)); // a question that was sent while the page loaded
  page.conversations = [...page.conversations, ...found.filter(({ id }) => !early.has(id))];
  page.composer.text ||= place.get("draft");
  const draft = () => place.set("draft", page.composer.text);
  let soon = null;
  page.typed = () => {
    clearTimeout(soon);
    soon = setTimeout(draft, 300);
  };
  const last = page.conversations.find(({ id }) => id === place.get("current"));
  page.left = (one) => (fresh(), deleted(one));
  page.tabs = new Tabs({
    shown: (remote, event) => page.shown(remote, event),
    over: () => page.refresh(),
    gone: (remote) => page.gone(remote),
    stop: (reply) => [...page.writing.values()].find(({ id }) => id === reply)?.abort.abort(),
  });
  if (page.current.messages.length) page.show(page.current);
  else if (last) page.show(last);
  else fresh();
  if (matchMedia("(hover: hover)").matches) page.composer.focus(); // on a phone the keyboard would jump up
  addEventListener("pagehide", () => {
    draft();
    for (const [id, written] of page.writing) page.keepPart(page.conversations.find((one) => one.id === id), written);
    page.tabs.leave();
  });

  function fresh() {
    page.show(begin(page.conversations[0]));
  }

  function set(name, value) {
    change(page.current, name, value);
    if (page.conversations.includes(page.current)) page.store.put(page.current);
    if (name === "tools") page.show(page.current);
    page.around();
  }

  function rename(id, name) {
    const one = page.conversations.find((other) => other.id === id);
    change(one, "title", name);
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
    deleted(one);
  }

  /** Tells that a conversation is deleted, here or in another tab, and offers to undo it. */
  function deleted(one) {
    page.toast("removed", { title: title(one) || words("untitled") }, { act: ["undo", async () => {
      page.conversations = [...page.conversations, one].sort((a, b) => b.updated - a.updated);
      await page.store.put(one, { restore: true });
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
    else download(`${name}.json`, "application/json", toJson([page.current], { shown: true }));
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
    busy: () => page.writing.size > 0 || page.microphone?.busy || page.reader?.reading,
  });

  function turned() {
    mark();
    if (!page.current.messages.length) page.show(page.current);
  }

  async function wipe() {
    for (const written of page.writing.values()) (written.gone = true, written.abort.abort());
    page.writing.clear();
    page.microphone?.cancel();
    page.reader?.stop();
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
