// Code in colours. highlight.js finds the words; it is loaded with the first block that names its language.

const MOST = 60_000; // characters: more stay in one colour

// The colours of markdown.css, and the kinds of words that have them.
const COLOURS = {
  keyword: "keyword literal built_in operator selector-tag selector-pseudo template-tag doctag name tag",
  string: "string regexp char addition link code",
  number: "number bullet symbol",
  title: "title section function class",
  attribute: "attr attribute property variable template-variable selector-class selector-id selector-attr type params meta",
  comment: "comment quote",
  deletion: "deletion",
};
const COLOUR = new Map(Object.entries(COLOURS).flatMap(([colour, kinds]) => kinds.split(" ").map((kind) => [kind, colour])));
const PLAIN = new Set(["params", "tag"]); // what is in these has its own colours

let highlighter = null;
let loading = null;

/** Colours a code block that is complete. */
export function colour(code, language) {
  if (!language || code.textContent.length > MOST) return;
  if (highlighter) return paint(code, language);
  loading ??= import("./vendor/highlight.js").then((found) => (highlighter = found.default));
  loading.then(
    () => paint(code, language),
    () => {}, // it stays in one colour
  );
}

function paint(code, language) {
  if (!highlighter.getLanguage(language)) return;
  const found = highlighter.highlight(code.textContent, { language, ignoreIllegals: true });
  code.replaceChildren(...nodes(found._emitter.rootNode.children));
}

/** Returns the words of highlight.js' tree as text and spans: no markup is parsed. */
function nodes(children) {
  return children.map((child) => {
    if (typeof child === "string") return document.createTextNode(child);
    const span = document.createElement("span");
    const kind = child.scope?.split(".")[0];
    const colour = PLAIN.has(kind) ? null : COLOUR.get(kind);
    if (colour) span.className = `code-${colour}`;
    span.append(...nodes(child.children));
    return span;
  });
}
