// Everything that was done by hand, in sentences, newest first; what was undone is struck through.

import * as api from "./api.js";
import { heading, make, message } from "./dom.js";

const PAGE = 100;

export async function show(root, { store, actions, notices, signal }) {
  const days = make("div", { class: "days" });
  const more = make("button", { type: "button", class: "plain", id: "earlier", hidden: true, onclick: () => extend().catch(notices.problem) }, "Show earlier ones");
  const empty = make("div");
  root.append(make("div", { class: "view-head" }, make("div", {}, heading("History"), make("p", { class: "facts-line" }, "What was changed by hand. Nothing is lost: everything can be undone."))), empty, days, more);
  let next = 0;
  let fate = new Map();
  let turn = 0;

  const ask = () => api.get(`${api.of(store.name, "edits")}?offset=${next}&limit=${PAGE}`, { signal });

  async function extend() {
    const mine = turn;
    const answer = await ask();
    if (mine === turn) add(answer);
  }

  function add(answer) {
    // The newest word on an edit decides: it comes first.
    for (const { kind, payload } of answer.edits) if ("of" in payload && !fate.has(payload.of)) fate.set(payload.of, kind);
    for (const edit of answer.edits) dayOf(edit).append(entry(edit));
    next = answer.next;
    more.hidden = next === null;
    empty.replaceChildren(...(days.children.length ? [] : [message("Nothing has been changed by hand yet.")]));
  }

  function dayOf(edit) {
    const day = new Date(edit.time).toLocaleDateString(undefined, { dateStyle: "full" });
    if (days.lastElementChild?.dataset.day !== day) {
      days.append(make("section", { "data-day": day }, make("h2", {}, day), make("ol", { class: "history" })));
    }
    return days.lastElementChild.lastElementChild;
  }

  function entry(edit) {
    const undone = fate.get(edit.seq) === "undo";
    const said = make("bdi", {}, edit.said);
    return make("li", { class: undone ? "undone" : "of" in edit.payload ? "step" : null, "data-seq": edit.seq },
      make("time", { datetime: edit.time }, new Date(edit.time).toLocaleTimeString(undefined, { timeStyle: "short" })),
      make("span", { class: "who" }, make("bdi", {}, edit.author || "Someone")),
      undone ? make("span", {}, make("s", {}, said), make("span", { class: "hidden" }, " (undone)")) : make("span", {}, said));
  }

  async function again() {
    turn += 1;
    next = 0;
    fate = new Map();
    const mine = turn;
    const answer = await ask();
    if (mine !== turn) return;
    days.replaceChildren();
    add(answer);
  }

  const off = store.subscribe(() => again().catch(notices.problem));
  actions.home(() => root.querySelector("h1").focus({ preventScroll: true }));
  await extend();
  return off;
}
