// The branches of a conversation: its turns as a tree. A turn is a question, or a reply of one or more messages. Each
// message names its `turn` and that turn's `parent`, the turn before. `messages` has the branch that is shown, `others`
// has the rest; both are lists of messages, so that what knows no branches reads the shown one.

/** Marks the messages of a turn: `at` is when it began, `rev` when it last changed, `partial` whether it is unfinished. */
export function mark(messages, { turn, parent, at = Date.now(), partial = false }) {
  const rev = Date.now();
  for (const message of messages) {
    Object.assign(message, { turn, parent, at, rev });
    if (partial) message.partial = true;
    else delete message.partial;
  }
  return messages;
}

/** Returns the turns by id: {id, parent, at, rev, partial, role, messages}. */
export function turns({ messages, others }) {
  const found = new Map();
  for (const message of [...messages, ...others]) {
    const { turn: id, parent, at, rev, partial = false, role } = message;
    if (!found.has(id)) found.set(id, { id, parent, at, rev, partial, role: role === "user" ? role : "reply", messages: [] });
    found.get(id).messages.push(message);
  }
  return found;
}

/** The id of the last turn that is shown. */
export function leaf({ messages }) {
  return messages.at(-1)?.turn ?? "";
}

/** Shows the branch that ends with a turn. */
export function showBranch(conversation, end, all = turns(conversation)) {
  const way = new Set();
  for (let turn = all.get(end); turn && !way.has(turn); turn = all.get(turn.parent)) way.add(turn);
  conversation.messages = [...way].reverse().flatMap(({ messages }) => messages);
  conversation.others = [...all.values()].filter((turn) => !way.has(turn)).flatMap(({ messages }) => messages);
}

/** Returns the ids of the turns that take each other's place: questions or replies after the same turn, oldest first. */
export function versions(all, id) {
  const { parent, role } = all.get(id);
  return children(all, parent).filter((turn) => turn.role === role).map((turn) => turn.id);
}

/** Shows a version of a turn, with the latest of what follows it. */
export function choose(conversation, id) {
  const all = turns(conversation);
  const seen = new Set();
  let end = id;
  for (let next = id; next && !seen.has(next); next = children(all, end).at(-1)?.id) {
    end = next;
    seen.add(end);
  }
  showBranch(conversation, end, all);
}

/** Shows the branch up to the turn before `id`; that turn and what follows stay in `others`. */
export function cutBefore(conversation, id) {
  const all = turns(conversation);
  showBranch(conversation, all.get(id)?.parent ?? "", all);
}

/** Adds a turn, or more messages of one, and shows it at the end. */
export function addTurn(conversation, messages) {
  const [{ turn }] = messages;
  const all = turns(conversation);
  all.set(turn, turns({ messages, others: [] }).get(turn));
  showBranch(conversation, turn, all);
}

/** Adds the turns that another copy of the conversation has, or has further; returns whether there were any. */
export function mergeTurns(conversation, other, end = leaf(conversation)) {
  const all = turns(conversation);
  let changed = end !== leaf(conversation);
  for (const turn of turns(other).values()) {
    const mine = all.get(turn.id);
    if (mine && !further(turn, mine)) continue;
    all.set(turn.id, turn);
    changed = true;
  }
  if (changed) showBranch(conversation, end, all);
  return changed;
}

function further(one, other) {
  return one.partial === other.partial ? one.rev > other.rev : other.partial;
}

function children(all, parent) {
  return [...all.values()].filter((turn) => turn.parent === parent).sort((one, other) => one.at - other.at || (one.id < other.id ? -1 : 1));
}

/** Gives each message of a stored conversation its turn; those of an older version of the page have none. The same
 * ids come out in every tab. */
export function checkTurns(conversation, stored) {
  let before = { turn: "", role: "" };
  let above = "";
  conversation.messages.forEach((message, index) => {
    const same = message.role !== "user" && before.role !== "user" && before.turn;
    const turn = id(stored.messages[index].turn) ?? (same ? before.turn : `${conversation.id}.${index}`);
    if (turn !== before.turn) above = before.turn;
    place(message, stored.messages[index], turn, above, conversation.created + index);
    before = message;
  });
  conversation.others.forEach((message, index) => {
    const given = stored.others[index];
    place(message, given, id(given.turn) ?? `${conversation.id}.other`, id(given.parent) ?? "", conversation.created);
  });
}

function place(message, given, turn, parent, at) {
  const time = (value) => (Number.isFinite(value) ? value : at);
  Object.assign(message, { turn, parent, at: time(given.at), rev: time(given.rev) });
  if (given.partial === true) message.partial = true;
}

function id(value) {
  return typeof value === "string" && value ? value : null;
}
