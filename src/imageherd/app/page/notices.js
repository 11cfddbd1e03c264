// What was done, and what went wrong: shown at the foot of the page and spoken by the live region.
//
//   notices.say(text, {label, run})   done; with an offer beside it ("Undo"); goes by itself
//   notices.problem(error, {label, run})  an Error or a sentence; stays until closed or tried again
//   notices.connection(text)          a line under the bar while the server is away; null takes it off
//   notices.within(dialog)            while a modal dialog is open nothing outside it can be seen or heard;
//                                     within(null): outside again

import { byId, make } from "./dom.js";

const LINGERS = 7000;
// A live region that has just been moved must settle before it is written to, or nothing is spoken.
const SETTLES = 60;

export function createNotices() {
  const place = byId("notices");
  const spoken = byId("said");
  let current = null;
  let timer = null;
  let speaking = null;

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
    current = make("div", { class: `notice ${kind}` }, make("p", {}, make("bdi", {}, text)), button, close);
    place.append(current);
    const wait = () => { timer = setTimeout(() => (current?.matches(":hover, :focus-within") ? wait() : drop()), LINGERS); };
    if (kind === "done") wait();
    clearTimeout(speaking);
    spoken.textContent = "";
    speaking = setTimeout(() => { spoken.textContent = text; }, SETTLES);
  }

  return {
    say: (text, offer = null) => show("done", text, offer),
    problem(error, offer = null) {
      if (error?.name === "AbortError") return;
      show("problem", String(error?.message ?? error), offer);
    },
    connection(text) {
      byId("connection").hidden = text === null;
      byId("connection").textContent = text ?? "";
    },
    within(dialog) {
      (dialog ?? byId("foot")).append(place, spoken);
    },
  };
}
