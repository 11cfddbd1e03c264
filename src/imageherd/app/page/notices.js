// What was done, and what went wrong: shown at the foot of the page and spoken by the live region.
//
//   notices.say(text, {label, run})   done; with an offer beside it ("Undo"); goes by itself
//   notices.problem(error, {label, run})  an Error or a sentence; stays until closed or tried again
//   notices.connection(text)          a line under the bar while the server is away; null takes it off

import { byId, make } from "./dom.js";

const LINGERS = 7000;

export function createNotices() {
  let current = null;
  let timer = null;

  function drop() {
    clearTimeout(timer);
    const hadFocus = current?.contains(document.activeElement);
    current?.remove();
    current = null;
    if (hadFocus) byId("view").focus({ preventScroll: true });
  }

  function show(kind, text, offer) {
    drop();
    const button = offer && make("button", { type: "button", class: "plain", onclick: () => { drop(); offer.run(); } }, offer.label);
    const close = make("button", { type: "button", class: "close", "aria-label": "Close this message", onclick: drop }, "×");
    current = make("div", { class: `notice ${kind}`, role: kind === "problem" ? "alert" : null },
      make("p", {}, make("bdi", {}, text)), button, close);
    byId("notices").append(current);
    const wait = () => { timer = setTimeout(() => (current?.matches(":hover, :focus-within") ? wait() : drop()), LINGERS); };
    if (kind === "done") wait();
  }

  return {
    say(text, offer = null) {
      byId("said").textContent = text;
      show("done", text, offer);
    },
    problem(error, offer = null) {
      if (error?.name === "AbortError") return;
      show("problem", String(error?.message ?? error), offer);
    },
    connection(text) {
      byId("connection").hidden = text === null;
      byId("connection").textContent = text ?? "";
    },
  };
}
