// Everything that was done by hand, in sentences, newest first.

import * as api from "./api.js";
import { heading, make, message } from "./dom.js";

const PAGE = 100;

export async function show(root, { store, notices, signal }) {
  const list = make("ol", { class: "history" });
  const more = make("button", { type: "button", class: "plain", hidden: true, onclick: () => extend().catch(notices.problem) }, "Show earlier ones");
  const empty = make("div");
  root.append(make("div", { class: "view-head" }, make("div", {}, heading("History"), make("p", { class: "facts-line" }, "What was changed by hand; nothing is ever lost."))), empty, list, more);
  let next = 0;

  async function extend() {
    const answer = await api.get(`${api.of(store.name, "edits")}?offset=${next}&limit=${PAGE}`, { signal });
    list.append(...answer.edits.map(entry));
    next = answer.next;
    more.hidden = next === null;
    empty.replaceChildren(...(list.children.length ? [] : [message("Nothing has been changed yet.")]));
  }

  function entry(edit) {
    const when = new Date(edit.time);
    return make("li", { class: edit.undone ? "undone" : "" },
      make("time", { datetime: edit.time }, when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })),
      make("b", {}, make("bdi", {}, edit.author)), make(edit.undone ? "s" : "span", {}, make("bdi", {}, edit.said)));
  }

  const off = store.subscribe(() => { next = 0; list.replaceChildren(); extend().catch(notices.problem); });
  await extend();
  return off;
}
