// The keys, in a dialog.

import { ask } from "./dialogs.js";
import { make } from "./dom.js";

const KEYS = [
  ["Among images", [["← → ↑ ↓", "go from one to the next"], ["Shift + arrows", "select all on the way"], ["x", "select this one, or not"], ["a", "select all"], ["Esc", "select none"], ["Enter", "see it large"]]],
  ["With the selected", [["m", "move to another cluster"], ["n", "make a new cluster of them"], ["o", "say that they fit nowhere"], ["s", "more like them"], ["y", "seen large: move it to its second choice"]]],
  ["Among clusters", [["/", "filter by name"], ["x", "select this one, or not"], ["g", "merge"], ["r", "rename"], ["p", "split"], ["[  ]", "the previous, the next"]]],
  ["Everywhere", [["Ctrl + Z", "undo"], ["Ctrl + Shift + Z", "redo"], ["?", "this list"]]],
];

export function showKeys() {
  return ask({
    title: "Keys", className: "wide", body: make("div", { class: "keys", tabindex: 0 }, ...KEYS.map(([title, keys]) => make("section", {}, make("h3", {}, title),
      make("dl", {}, ...keys.map(([key, what]) => make("div", {}, make("dt", {}, make("kbd", {}, key)), make("dd", {}, what))))))),
  });
}
