// One image, large, with what is known of it; the arrows go on to its neighbours.
//
//   showLarge({context, n, at, itemAt(i) → promise of an Item, moved(i)})

import * as api from "./api.js";
import { count, make, named, nameOf, percent } from "./dom.js";
import { fullUrl, pictureUrl, words } from "./pictures.js";

export function showLarge({ context, n, at, itemAt, moved }) {
  const { store, select, notices, actions, go, to } = context;
  const stage = make("div", { class: "stage" });
  const facts = make("div", { class: "facts" });
  const title = make("h2", { id: "large-title" });
  const tick = make("input", { type: "checkbox", id: "large-chosen" });
  let turn = 0;
  let row = null;

  const dialog = make("dialog", { class: "large", "aria-labelledby": "large-title" },
    make("div", { class: "dialog-head" }, title,
      make("label", { class: "chooser" }, tick, "Selected"),
      make("div", { class: "dialog-buttons" },
        make("button", { type: "button", class: "round", "aria-label": "Previous", onclick: () => step(-1) }, "‹"),
        make("button", { type: "button", class: "round", "aria-label": "Next", onclick: () => step(1) }, "›"),
        make("button", { type: "button", class: "round", "aria-label": "Close", onclick: () => dialog.close() }, "×"))),
    make("div", { class: "large-body" }, stage, facts));

  function step(by) {
    if (at + by < 0 || at + by >= n) return;
    at += by;
    show();
  }

  async function show() {
    const mine = ++turn;
    try {
      const item = await itemAt(at);
      if (mine !== turn || !item) return;
      row = item.row;
      moved(at);
      title.replaceChildren(make("bdi", {}, item.name));
      tick.checked = select.has(row);
      stage.replaceChildren(item.text ? words(item.text) : view(item));
      const known = await api.get(api.of(store.name, "items", row));
      if (mine === turn) facts.replaceChildren(...factsOf(known));
    } catch (error) {
      if (mine === turn) facts.replaceChildren(make("p", {}, error.message));
    }
  }

  // The thumbnail is there at once; the whole picture takes its place when it has come.
  function view(item) {
    const image = make("img", { src: pictureUrl(item.row, 384), alt: item.name });
    const whole = new Image();
    whole.src = fullUrl(item.row);
    whole.decode().then(() => { image.src = whole.src; }, () => {});
    return image;
  }

  function factsOf(item) {
    const cluster = store.cluster(item.uid);
    const line = (term, ...said) => make("div", {}, make("dt", {}, term), make("dd", {}, ...said));
    const close = (address) => () => { dialog.close(); go(address); };
    return [
      item.reason && make("p", { class: "reason" }, make("bdi", {}, item.reason)),
      make("dl", {},
        cluster && line("In", named(cluster)),
        item.probability !== null && line("How sure", item.by_hand ? "put here by hand" : percent(item.probability)),
        item.second && line("Or else", make("bdi", {}, nameOf(item.second))),
        item.width && line("Size", `${count(item.width)} × ${count(item.height)}`),
        line("Number", `${count(at + 1)} of ${count(n)}`),
        item.source && line("From", make("bdi", {}, item.source)),
        line("File", make("bdi", {}, item.name))),
      make("div", { class: "facts-buttons" },
        make("button", { type: "button", class: "plain", onclick: async () => { if (await actions.moveTo([item.row])) dialog.close(); } }, "Move to …"),
        make("button", { type: "button", class: "plain", onclick: async () => { if (await actions.nowhere([item.row])) dialog.close(); } }, "Fits nowhere"),
        make("button", { type: "button", class: "plain", onclick: close(to("search", { row: item.row })) }, "More like this")),
    ].filter(Boolean);
  }

  tick.addEventListener("change", () => select.toggle(row));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "x" && row !== null) { select.toggle(row); tick.checked = select.has(row); }
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  context.signal.addEventListener("abort", () => dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  show().catch(notices.problem);
}
