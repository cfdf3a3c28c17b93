// Markdown as DOM nodes, built from a parser's tokens. No markup is ever parsed: HTML in a text is shown as text,
// links go to web and mail addresses only, and images of other machines are named, not loaded.

import { citing } from "./citations.js";
import { colour } from "./code.js";
import { h, icon } from "./element.js";
import { footnote, footnoteMark, footnoteRules } from "./footnotes.js";
import { formula, mathsRules } from "./maths.js";
import cjkFriendly from "./vendor/cjk-friendly.js";
import MarkdownIt from "./vendor/markdown-it.js";

const ITEM = /^(\d{1,9}[.)]?|[-+*])$/;
const TASK = /^\[[ xX]\] (?=\S)/;
const LINK = /^(https?:\/\/|mailto:)/i;
const PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,/i;

// A line of dashes under a text is a rule: models mean that, and a list's first "-" would flash as a heading.
const parser = new MarkdownIt({ html: false, linkify: true, breaks: true }).use(cjkFriendly).disable("lheading");
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
parser.validateLink = (address) => LINK.test(address) || PICTURE.test(address);
mathsRules(parser);
footnoteRules(parser);

/** Returns the nodes of a whole text. `still`: links are text, for a kiosk; `citations`: the
 * passages that it may cite. */
export function nodes(text, options = {}) {
  const made = build(parser.parse(text.replaceAll("\r", ""), {}), options);
  complete(made);
  return made.childNodes;
}

/**
 * A text that grows. Complete blocks stay unchanged; only the last is rebuilt, at most once a frame, and less often if
 * that is slow.
 */
export class Growing {
  constructor(target, options = {}) {
    this.target = target;
    this.options = { still: false, grown: () => {}, ...options };
    this.tail = ""; // the source of the last block
    this.env = {}; // the link references
    this.last = []; // its nodes
    this.timer = null;
    this.cost = 0;
  }

  write(piece) {
    this.tail += piece.replaceAll("\r", "");
    if (this.timer !== null) return;
    const wait = document.hidden ? 200 : this.cost > 8 ? this.cost * 3 : 0; // a hidden page has no frames
    this.timer = wait ? setTimeout(() => this.draw(), wait) : requestAnimationFrame(() => this.draw());
    this.framed = !wait;
  }

  end() {
    if (this.timer !== null) (this.framed ? cancelAnimationFrame : clearTimeout)(this.timer);
    this.draw(false);
    this.last.forEach(complete);
  }

  draw(growing = true) {
    this.timer = null;
    const start = performance.now();
    this.env.growing = growing;
    const tokens = parser.parse(this.tail, this.env);
    const begins = tokens.flatMap((token, index) => (token.level === 0 && token.nesting >= 0 ? [index] : []));
    // Text that may become a list's next item, such as a number alone, belongs to the block before it.
    if (begins.length > 1 && ITEM.test(tokens[begins.at(-1) + 1]?.content ?? "")) begins.pop();
    begins.forEach((begin, index) => {
      const block = tokens.slice(begin, begins[index + 1]);
      if (index > 0) {
        this.last.forEach(complete);
        this.last = [];
      }
      if (!this.extend(block)) this.replace([...build(block, this.options).childNodes]);
    });
    if (begins.length > 1) this.tail = this.tail.split("\n").slice(tokens[begins.at(-1)].map[0]).join("\n");
    this.cost = performance.now() - start;
    this.options.grown();
  }

  /** Appends to the last code block, so that a long one is not rebuilt. */
  extend(block) {
    const code = this.last.length === 1 && this.last[0].querySelector?.(":scope > pre > code");
    if (!code || block.length !== 1 || block[0].type !== "fence") return false;
    const [now, before] = [lines(block[0]), code.textContent];
    if (this.last[0].dataset.info !== block[0].info || !now.startsWith(before)) return false;
    if (now.length > before.length) {
      if (code.firstElementChild) code.textContent = before; // it has colours
      if (code.firstChild) code.firstChild.appendData(now.slice(before.length));
      else code.append(now);
    }
    return true;
  }

  replace(made) {
    const [first, ...others] = this.last;
    others.forEach((node) => node.remove());
    if (first) first.replaceWith(...made);
    else this.target.append(...made);
    this.last = made;
  }
}

const MARKS = { em: "em", strong: "strong", s: "s" };
const BLOCKS = {
  paragraph: "p",
  blockquote: "blockquote",
  bullet_list: "ul",
  list_item: "li",
  thead: "thead",
  tbody: "tbody",
  tr: "tr",
};

/** Colours the code of blocks that grow no more. */
function complete(node) {
  if (!node.querySelectorAll) return;
  const figures = node.matches?.(".code") ? [node] : node.querySelectorAll(".code");
  for (const figure of figures) colour(figure.querySelector("code"), figure.dataset.info.split(/\s+/)[0].toLowerCase());
}

/** Returns the tokens' nodes, in a fragment. An opening token is the parent of the nodes up to its closing token. */
function build(tokens, options) {
  const { still = false, grown, citations } = options;
  const root = document.createDocumentFragment();
  const parents = [root];
  const open = (element, inner = element) => {
    parents.at(-1).append(element);
    parents.push(inner);
  };
  tokens.forEach((token, index) => {
    const here = parents.at(-1);
    const kind = token.type.replace(/_(open|close)$/, "");
    if (token.hidden) return; // the paragraphs of a tight list
    if (token.nesting < 0) {
      parents.pop();
    } else if (token.type === "inline") {
      here.append(build(token.children, options));
    } else if (kind === "list_item" && TASK.test(tokens[index + 2]?.content ?? "")) {
      open(task(tokens[index + 2]));
    } else if (kind in MARKS || kind in BLOCKS) {
      open(h(MARKS[kind] ?? BLOCKS[kind]));
    } else if (kind === "heading") {
      // The page's own headings are above those of a reply.
      open(h(`h${Math.min(Number(token.tag[1]) + 2, 6)}`, { class: `level-${token.tag[1]}` }));
    } else if (kind === "ordered_list") {
      open(h("ol", { start: token.attrGet("start") }));
    } else if (kind === "table") {
      const table = h("table");
      open(h("div", { class: "table", tabindex: "0" }, table), table);
    } else if (kind === "th" || kind === "td") {
      open(h(kind, { class: /right|center/.exec(token.attrGet("style") ?? "")?.[0] }));
    } else if (kind === "link") {
      open(link(token.attrGet("href"), still));
    } else if (token.type === "fence" || token.type === "code_block") {
      here.append(code(token));
    } else if (token.type === "code_inline") {
      here.append(h("code", {}, token.content));
    } else if (token.type === "maths") {
      here.append(formula(token.content, grown));
    } else if (kind === "footnote") {
      open(footnote(token.meta.label));
    } else if (token.type === "footnote_mark") {
      here.append(footnoteMark(token.meta.label));
    } else if (token.type === "hr") {
      here.append(h("hr"));
    } else if (token.type === "hardbreak" || token.type === "softbreak") {
      here.append(h("br"));
    } else if (token.type === "image") {
      here.append(image(token, still));
    } else {
      here.append(...citing(token.content, citations));
    }
  });
  return root;
}

/** The item of a task list; the text of its first line loses its box. */
function task(line) {
  const [box] = TASK.exec(line.content);
  const [first] = line.children;
  const done = box[1] !== " ";
  first.content = first.content.slice(box.length);
  return h("li", { class: "task" }, h("input", { type: "checkbox", disabled: true, checked: done, "t-label": done ? "taskDone" : "taskOpen" }));
}

function link(address, still) {
  if (still || !LINK.test(address)) return h("span", { class: "link" });
  return h("a", { href: address, rel: "noopener noreferrer", target: "_blank" });
}

function image(token, still) {
  const address = token.attrGet("src");
  const alt = token.content || address;
  if (PICTURE.test(address)) return h("img", { src: address, alt: token.content });
  const place = link(address, still);
  place.append(h("span", { class: "remote", t: "remote", values: { alt } }));
  return place;
}

function code(token) {
  const info = (token.info ?? "").trim();
  const language = info.split(/\s+/)[0].slice(0, 40);
  const copy = h("button", { type: "button", class: "quiet", "data-copy": "code", "t-label": "copyCode" }, icon("copy"));
  return h(
    "figure",
    { class: "code", "data-info": token.info ?? "" },
    h("figcaption", {}, h("span", {}, language), copy),
    h("pre", { tabindex: "0" }, h("code", {}, lines(token))),
  );
}

/** Returns a code block's text. While it grows, the parser appends a line end that is not in the source. */
function lines(token) {
  return token.content.replace(/\n$/, "");
}
