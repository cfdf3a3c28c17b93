// The conversation on the page: its turns, the greeting of an empty one, and a view that follows the reply.

import { waitingCalls } from "./approval.js";
import { leaf, turns, versions } from "./branches.js";
import { h, icon, iconButton, say } from "./element.js";
import { followFootnote } from "./footnotes.js";
import { Citations } from "./citations.js";
import { events } from "./reply.js";
import { ReplyTurn, noteLine, userTurn, versionSwitch } from "./turn.js";
import { words } from "./words.js";

const NEAR = 60; // pixels from the end at which the view still follows

export class Thread {
  /** `change(turn, text)` sends a question anew, `again()` regenerates the last reply, `pick(turn)` shows another version
   *  of a turn, `decide({decisions, always})` goes on with calls that waited. `reader` reads replies aloud, if there is one. `still`: no links and no copy buttons, as in a kiosk. */
  constructor(root, scroller, actions, { still = false, reader = null } = {}) {
    this.root = root;
    this.scroller = scroller;
    this.actions = actions;
    this.still = still;
    this.reader = reader;
    this.follow = true;
    this.id = null; // the conversation's
    this.kept = new Map(); // by turn: {rev, elements, versions}
    this.latest = iconButton("down", "latest", () => this.end(), { class: "icon-button latest", hidden: true });
    scroller.after(this.latest);
    let before = 0;
    scroller.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = scroller;
      const near = scrollHeight - scrollTop - clientHeight < NEAR;
      if (near) this.follow = true;
      else if (scrollTop < before) this.follow = false;
      this.latest.hidden = near;
      before = scrollTop;
    }, { passive: true });
    // Without a reply in progress, details that a reader opens stay in place.
    new ResizeObserver(() => this.working && this.grown()).observe(root);
    root.addEventListener("click", (event) => {
      copy(event.target.closest("[data-copy]"));
      followFootnote(event.target.closest(".footnote-mark"));
    });
  }

  options() {
    const { again, decide } = this.actions;
    return { still: this.still, reader: this.reader, again, decide, citations: this.citations, grown: () => this.grown() };
  }

  /** Shows a conversation; turns that are on the screen already stay as they are. `live` is a reply in progress. */
  show(conversation, greeting, live = null) {
    const all = turns(conversation);
    const other = conversation.id !== this.id;
    if (other) this.kept.clear();
    this.id = conversation.id;
    this.citations = new Citations();
    const shown = [];
    const unread = unreadOf(conversation, live);
    let count = 0;
    for (const id of new Set(conversation.messages.map(({ turn }) => turn))) {
      const { messages } = all.get(id);
      if (count <= unread && unread < count + messages.length) shown.push(this.unread(unread));
      count += messages.length;
      if (id === live?.id) continue;
      const kept = this.turn(all.get(id), !live && id === leaf(conversation));
      for (const event of events(messages)) this.citations.take(event);
      this.versions(kept, versions(all, id), id);
      shown.push(...kept.elements);
    }
    for (const id of this.kept.keys()) if (!all.has(id)) this.kept.delete(id);
    if (live) shown.push(live.turn.element);
    this.arrange(shown.length ? shown : [greeting()]);
    if (other) this.end();
    else this.grown();
  }

  /** The line above the first message that the model still reads. */
  unread(count) {
    this.line ??= h("p", { class: "unread hint" });
    say(this.line, "dropped", { count });
    return this.line;
  }

  /** Returns {rev, elements} of a turn. A call of the `last` one may wait for a decision. */
  turn(turn, last) {
    const open = last && waitingCalls(turn.messages).length > 0;
    const rev = open ? `${turn.rev} open` : turn.rev;
    const kept = this.kept.get(turn.id);
    if (kept?.rev === rev) return kept;
    const [message] = turn.messages;
    const elements = [];
    if (turn.role === "user") {
      elements.push(userTurn(message, { change: (text) => this.actions.change(turn.id, text) }));
      if (message.note) elements.push(noteLine(message.note, this.actions.again));
    } else elements.push(ReplyTurn.of(turn.messages, { ...this.options(), open }).element);
    return this.keep(turn.id, rev, ...elements);
  }

  /** Keeps the elements of a turn as they are until the turn changes. */
  keep(id, rev, ...elements) {
    const kept = { rev, elements, versions: "" };
    this.kept.set(id, kept);
    return kept;
  }

  versions(kept, ids, id) {
    const now = ids.length > 1 ? `${ids.indexOf(id)}/${ids.length}` : "";
    if (kept.versions === now) return;
    kept.versions = now;
    const [element] = kept.elements;
    element.querySelector(".versions")?.remove();
    if (now) element.querySelector(".foot")?.prepend(versionSwitch(ids, id, (to) => this.pick(to)));
  }

  /** Shows another version of a turn, with the focus where it was. */
  pick(id) {
    const { activeElement } = document;
    const side = activeElement?.closest(".versions") && (activeElement.classList.contains("left") ? "left" : "right");
    this.actions.pick(id);
    if (!side) return;
    const buttons = this.kept.get(id)?.elements[0].querySelectorAll(".versions button:enabled") ?? [];
    ([...buttons].find((button) => button.classList.contains(side)) ?? buttons[0])?.focus({ preventScroll: true });
  }

  /** Makes these the children, and touches none that is in its place. */
  arrange(elements) {
    const wanted = new Set(elements);
    for (const child of [...this.root.children]) if (!wanted.has(child)) child.remove();
    elements.forEach((element, index) => {
      if (this.root.children[index] !== element) this.root.insertBefore(element, this.root.children[index] ?? null);
    });
  }

  reply() {
    return new ReplyTurn(this.options());
  }

  /** Whether a reply is in progress: the style then hides editing and regenerating. */
  set busy(is) {
    if (this.working && !is) this.grown();
    this.working = is;
    this.root.classList.toggle("busy", is);
    this.root.setAttribute("aria-busy", String(is));
  }

  grown() {
    if (this.follow) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  end() {
    this.follow = true;
    this.grown();
  }
}

/** How many of the oldest messages did not fit the last reply, or the one in progress; -1 if all did. */
function unreadOf({ messages }, live) {
  const last = messages.findLast(({ role }) => role !== "user")?.turn;
  return live?.dropped || messages.find(({ turn }) => turn === last)?.dropped || -1;
}

export function greeting({ facts, suggestions = [], suggest = () => {} }) {
  const [model] = facts.models;
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const where = { model: model?.name ?? "GLM-4", host: location.hostname };
  return h(
    "section",
    { class: "greeting" },
    h("h2", { t: "greeting" }),
    facts.kiosk ? null : h("p", { t: local ? "runsHere" : "runsThere", values: where }),
    facts.tools.length && !facts.kiosk
      ? h(
          "p",
          { class: "tools" },
          h("span", { t: "canUse" }),
          ...facts.tools.map(({ name, description }) => h("span", { class: "chip", title: description }, icon("tool"), name)),
        )
      : null,
    suggestions.length
      ? h(
          "div",
          { class: "suggestions" },
          ...suggestions.map((text) => h("button", { type: "button", class: "suggestion", on: { click: () => suggest(text) } }, text)),
        )
      : null,
  );
}

/** Copies the code block or the turn that a button belongs to, and confirms it on the button. */
async function copy(button) {
  if (!button) return;
  const code = button.closest(".code")?.querySelector("code");
  await clip(button.dataset.copy === "code" ? code.textContent : button.closest(".turn").source);
  const { copy: what } = button.dataset;
  button.replaceChildren(icon("done"));
  button.setAttribute("aria-label", words("copied"));
  setTimeout(() => {
    button.replaceChildren(icon("copy"));
    button.setAttribute("aria-label", words(what === "code" ? "copyCode" : "copy"));
  }, 1500);
}

/** Copies a text. The clipboard API needs HTTPS or this machine; otherwise a selection is copied. */
async function clip(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Not permitted here; copying a selection may be.
    }
  }
  const field = h("textarea", { class: "unseen", "aria-hidden": "true" });
  field.value = text;
  const back = document.activeElement;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  back?.focus();
}
