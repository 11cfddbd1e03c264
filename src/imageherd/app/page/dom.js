// Building the page: elements, numbers and words. Data goes in as text only; nothing parses markup.
//
//   make(tag, attributes, ...children)  an element; "on…" listens, "class" is className, null/false is left out
//   byId(id), count(n) "1,234", plural(n, one, many), percent(share) "53 %", fileName(path)
//   nameOf(cluster)                     its name, or "Cluster 12"; uid -1 is "Fits nowhere"
//   named(cluster)                      a coloured dot and the name, to be put into any line
//   heading(text, …children)            the <h1> of a view, which takes the focus after a change of view
//   message(text)                       a quiet paragraph: waiting, nothing found
//   paint(element, cluster)             gives an element its cluster's colour: var(--colour) in its CSS, right in both themes
//   isTyping(event)                     whether a key press belongs to a field

export const NOWHERE = -1;

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const count = (n) => n.toLocaleString("en");
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
export const percent = (share) => `${Math.round(100 * share)} %`;
export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

export function nameOf(cluster) {
  if (cluster.uid === NOWHERE) return "Fits nowhere";
  return cluster.name || `Cluster ${cluster.uid}`;
}

export function paint(element, cluster) {
  if (!cluster?.colour) return element;
  element.classList.add("coloured");
  element.style.setProperty("--light", cluster.colour);
  element.style.setProperty("--dark", cluster.colour_dark);
  return element;
}

export function named(cluster) {
  const dot = make("i", { class: "dot", "aria-hidden": "true" });
  return paint(make("span", { class: "named" }, dot, make("bdi", {}, nameOf(cluster))), cluster);
}

export const heading = (text, ...children) => make("h1", { tabindex: -1 }, make("bdi", {}, text), ...children);

export const message = (text) => make("p", { class: "waiting" }, text);

export function isTyping(event) {
  return event.target.matches?.("input:not([type=checkbox], [type=range], [type=radio]), select, textarea, [contenteditable]") ?? false;
}
