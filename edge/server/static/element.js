// DOM elements, made without markup: the words of a model or a user become text only.

import { label } from "./words.js";

/**
 * An element. `props`: `class`, `on` (listeners), `t`, `t-alt`, `t-label` and `t-placeholder` (keys of words.js, kept in the
 * element so that another language finds them), `values` (for the words); anything else is an attribute, or omitted
 * if it is false, null or undefined.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "values") element.dataset.values = JSON.stringify(value);
    else if (name === "t" || name.startsWith("t-")) element.setAttribute(`data-${name}`, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  label(element);
  return element;
}

/** Sets an element's words. */
export function say(element, key, values) {
  element.dataset.t = key;
  if (values) element.dataset.values = JSON.stringify(values);
  label(element);
}

/** A button with a drawn icon, named for screen readers and by its tooltip. */
export function iconButton(name, words, listener, props = {}) {
  return h("button", { type: "button", class: "icon-button", "t-label": words, on: { click: listener }, ...props }, icon(name));
}

const SHAPES = {
  menu: "M4 7h16M4 12h16M4 17h10",
  plus: "M12 5v14M5 12h14",
  picture: "M5 5h14v14H5zM5 16l4.500-4.500 3.500 3.500 2-2 4 4M15.500 8a1.250 1.250 0 1 0 .001 0z",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v10H9zM5 15V5h10",
  done: "M5 12.5l4.5 4.5L19 7.500",
  retry: "M19 12a7 7 0 1 1-2.100-5M19 4v4h-4",
  edit: "M5 19h3.500L19 8.500 15.500 5 5 15.500zM13 7.500l3.500 3.500",
  bin: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12M10.500 11v5M13.500 11v5",
  gear: "M4 8h9M17 8h3M4 16h3M11 16h9M15 5.750a2.250 2.250 0 1 0 .001 0zM9 13.750a2.250 2.250 0 1 0 .001 0z",
  share: "M12 4v11M7.500 10.500L12 15l4.500-4.500M5 19h14",
  close: "M6 6l12 12M18 6L6 18",
  left: "M14.500 6l-6 6 6 6",
  right: "M9.500 6l6 6-6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  tool: "M14.500 6.500a4 4 0 0 0-5.200 5.200L4.500 16.500l3 3 4.800-4.800a4 4 0 0 0 5.200-5.200L15 12l-3-3z",
  clip: "M19 11.500l-7 7a4.500 4.500 0 0 1-6.400-6.400l7.500-7.500a3 3 0 0 1 4.300 4.300l-7.400 7.400a1.500 1.500 0 0 1-2.200-2.200l6.700-6.600",
  page: "M7 4h7l4 4v12H7zM14 4v4h4",
  microphone: "M12 4a2.500 2.500 0 0 0-2.500 2.500v5a2.500 2.500 0 0 0 5 0v-5A2.500 2.500 0 0 0 12 4zM6.500 11.500a5.500 5.500 0 0 0 11 0M12 17v3",
  speaker: "M5 10v4h3l4 3.500v-11L8 10zM15 9.500a3.500 3.500 0 0 1 0 5M17.500 7a7 7 0 0 1 0 10",
  wait: "M6 12h.01M12 12h.01M18 12h.01",
  search: "M11 5a6 6 0 1 0 .001 0zM15.500 15.500L20 20",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}
