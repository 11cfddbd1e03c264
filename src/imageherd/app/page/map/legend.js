// The list beside the map: what the colours mean; a click on an entry highlights it.
import { count, make } from "../dom.js";

const MOST = 500;

// groups: {name, size, colour, colour_dark} by code. changed(marked) is told of a highlight.
export function legend(root, { title, groups, marked, changed }) {
  const list = make("ul", { class: "map-groups" });
  const more = make("p", { class: "map-more", hidden: true });
  const find = make("input", { type: "search", placeholder: "Find a name", "aria-label": `Find in ${title.toLowerCase()}` });
  const order = groups.map((_, code) => code).filter((code) => groups[code].size > 0);

  function entry(code) {
    const { name, size, colour, colour_dark } = groups[code];
    const button = make("button", { type: "button", "aria-pressed": String(marked.has(code)), title: name, onclick: () => {
      if (!marked.delete(code)) marked.add(code);
      button.setAttribute("aria-pressed", String(marked.has(code)));
      changed(marked);
    } }, make("i", { class: "dot", "aria-hidden": "true" }), make("bdi", {}, name), make("span", { class: "size" }, count(size)));
    button.style.setProperty("--colour", `light-dark(${colour}, ${colour_dark ?? colour})`);
    return make("li", {}, button);
  }
  function fill() {
    const words = find.value.trim().toLowerCase();
    const found = order.filter((code) => groups[code].name.toLowerCase().includes(words));
    list.replaceChildren(...found.slice(0, MOST).map(entry));
    more.hidden = found.length > 0 && found.length <= MOST;
    more.textContent = found.length ? `${count(found.length - MOST)} more: find them by name.` : "No name like this.";
  }
  find.addEventListener("input", fill);
  // After an edit it is made anew: what a person looked for, and where, stays.
  const { focused, words, scrolled } = left(root, title);
  find.value = words;
  root.replaceChildren(make("h2", {}, title), order.length > 12 ? find : "", list, more);
  fill();
  root.scrollTop = scrolled;
  if (focused) (focused.input ? find : [...list.querySelectorAll("button")].find((button) => button.title === focused.title))?.focus();
}

function left(root, title) {
  if (root.querySelector("h2")?.textContent !== title) return { focused: null, words: "", scrolled: 0 };
  const active = root.contains(document.activeElement) ? document.activeElement : null;
  const focused = active && { input: active.matches("input"), title: active.title };
  return { focused, words: root.querySelector("input")?.value ?? "", scrolled: root.scrollTop };
}

// The scale of the doubts, from the sure to the doubtful.
export function scaleLegend(root, { steps, low, high }) {
  const bar = make("div", { class: "map-ramp", role: "img", "aria-label": "From surest to most doubtful" });
  bar.style.background = `linear-gradient(90deg, ${steps.join(", ")})`;
  const said = (value) => `${Math.round(100 * value)} %`;
  root.replaceChildren(make("h2", {}, "How sure its place is"), bar,
    make("p", { class: "map-ends" }, make("span", {}, `sure, ${said(high)}`), make("span", {}, `doubtful, ${said(low)}`)),
    make("p", { class: "map-more" }, "What is doubtful stands out and lies on top."));
}
