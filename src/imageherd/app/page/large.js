// One image, large, with what is known of it; the arrows go on to its neighbours, and it can be put
// elsewhere without leaving, the next one taking its place.
//
//   showLarge({context, n() → how many, at, itemAt(i) → promise of an Item, moved(i), closed()})

import * as api from "./api.js";
import { count, make, message, named, nameOf, percent } from "./dom.js";
import { fullUrl, pictureUrl, words } from "./pictures.js";

export function showLarge({ context, n, at, itemAt, moved, closed }) {
  const { store, select, notices, actions, signal } = context;
  const stage = make("div", { class: "stage" });
  const facts = make("div", { class: "facts", tabindex: 0, role: "region", "aria-label": "What is known of it" });
  const title = make("h2", { id: "large-title" });
  const place = make("span", { class: "size" });
  const tick = make("input", { type: "checkbox", id: "large-chosen" });
  const previous = make("button", { type: "button", class: "round", "aria-label": "Previous", "aria-keyshortcuts": "ArrowLeft", onclick: () => step(-1) }, "‹");
  const next = make("button", { type: "button", class: "round", "aria-label": "Next", "aria-keyshortcuts": "ArrowRight", onclick: () => step(1) }, "›");
  let turn = 0;
  let row = null;
  let second = null;

  const dialog = make("dialog", { class: "large", "aria-labelledby": "large-title" },
    make("div", { class: "dialog-head" }, title, place,
      make("label", { class: "chooser" }, tick, "Selected"),
      make("div", { class: "dialog-buttons" }, previous, next,
        make("button", { type: "button", class: "round", "aria-label": "Close", onclick: () => dialog.close() }, "×"))),
    make("div", { class: "large-body" }, stage, facts));

  function step(by) {
    if (at + by < 0 || at + by >= n()) return;
    at += by;
    show();
  }

  async function show() {
    const mine = ++turn;
    if (!n()) { dialog.close(); return; }
    at = Math.min(at, n() - 1);
    previous.setAttribute("aria-disabled", String(at === 0));
    next.setAttribute("aria-disabled", String(at === n() - 1));
    try {
      const item = await itemAt(at);
      if (mine !== turn || !item) return;
      moved(at);
      place.textContent = `${count(at + 1)} of ${count(n())}`;
      if (item.row !== row) {
        row = item.row;
        second = null;
        title.replaceChildren(make("bdi", {}, item.name));
        stage.replaceChildren(item.text ? words(item.text) : view(item));
        ahead();
      }
      tick.checked = select.has(row);
      const known = await api.get(api.of(store.name, "items", row), { signal });
      if (mine === turn) facts.replaceChildren(...factsOf(known));
    } catch (error) {
      if (mine === turn) facts.replaceChildren(message(error.message));
    }
  }

  // The thumbnail is there at once; the whole picture takes its place when it has come.
  function view(item) {
    const image = make("img", { src: pictureUrl(item.row, 384), alt: item.name });
    const whole = new Image();
    whole.src = fullUrl(item.row);
    whole.decode().then(() => { image.src = whole.src; }, () => {});
    image.addEventListener("error", () => image.replaceWith(message("This picture cannot be shown.")));
    return image;
  }

  function ahead() {
    if (at + 1 < n()) itemAt(at + 1).then((item) => { if (item && !item.text) new Image().src = fullUrl(item.row); }, () => {});
  }

  function factsOf(item) {
    const cluster = store.cluster(item.uid);
    second = item.second && store.cluster(item.second.uid);
    const line = (term, ...said) => make("div", {}, make("dt", {}, term), make("dd", {}, ...said));
    const button = (key, label, run, how = "") => make("button", { type: "button", class: `plain ${how}`, "aria-keyshortcuts": key, onclick: run }, make("bdi", {}, label), make("kbd", { "aria-hidden": "true" }, key.toUpperCase()));
    return [
      item.reason && make("div", { class: "reason" }, make("h3", {}, "Why it is doubtful"), make("p", {}, make("bdi", {}, item.reason))),
      make("div", { class: "facts-buttons" },
        second && button("y", `Move to ${nameOf(second)}`, doing.y, "wholly"),
        button("m", "Move to …", doing.m), button("n", "New cluster", doing.n), button("o", "Fits nowhere", doing.o), button("s", "More like this", doing.s)),
      make("dl", {},
        cluster && line("In", named(cluster)),
        item.by_hand ? line("How sure", "put here by hand") : item.probability !== null && line("How sure", percent(item.probability)),
        item.second && line("Or else", named(second ?? item.second)),
        item.width && line("Size", `${count(item.width)} × ${count(item.height)} pixels`),
        line("File", make("bdi", {}, item.name)),
        item.source && line("From", make("bdi", {}, item.source))),
    ].filter(Boolean);
  }

  const staying = (work) => async () => {
    if (row === null) return;
    await work();
    if (dialog.open) show();
  };
  const doing = {
    y: staying(() => second && actions.send({ kind: "move", rows: [row], to: second.uid })),
    m: staying(() => actions.moveTo([row])),
    n: staying(() => actions.newCluster([row])),
    o: staying(() => actions.nowhere([row])),
    s() { dialog.close(); actions.moreLike([row]); },
    x() { select.toggle(row); tick.checked = select.has(row); },
  };

  tick.addEventListener("change", () => select.toggle(row));
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key in doing && row !== null) doing[event.key]();
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("mousedown", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    off();
    notices.within(null);
    dialog.remove();
    closed();
  });
  const off = store.subscribe(show);
  signal.addEventListener("abort", () => dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  notices.within(dialog);
  next.focus();
  show();
}
