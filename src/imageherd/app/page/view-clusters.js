// All clusters as cards: their covers, names, sizes, and what to look at first for mistakes.

import { byId, count, heading, isTyping, make, message, NOWHERE, nameOf, paint, percent } from "./dom.js";
import { forget, picture } from "./pictures.js";
import { virtualGrid } from "./virtual.js";

const ORDERS = {
  size: ["Largest first", (a, b) => b.size - a.size],
  name: ["By name", (a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true, sensitivity: "base" })],
  doubt: ["Least sure first", (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2)],
  confidence: ["Surest first", (a, b) => (b.confidence ?? -1) - (a.confidence ?? -1)],
};

// Kept while the page is open, so that a person comes back to what was left.
const kept = { words: "", order: "size" };

export async function show(root, { store, actions, go, to }) {
  const chosen = new Set();
  let shown = [];
  const filter = make("input", { id: "filter", type: "search", placeholder: "Filter by name", autocomplete: "off", spellcheck: "false", "aria-label": "Filter clusters by name" });
  filter.value = kept.words;
  const order = make("select", { id: "sort" }, ...Object.entries(ORDERS).map(([value, [label]]) => make("option", { value, selected: value === kept.order }, label)));
  const found = make("span", { id: "shown", role: "status" });
  const facts = make("p", { class: "facts-line" });
  const cards = make("div", { class: "cards", role: "list", "aria-label": "Clusters" });
  const empty = make("div");
  root.append(
    make("div", { class: "view-head" }, make("div", {}, heading("Clusters"), facts),
      make("div", { class: "controls" },
        make("label", { class: "find" }, filter, make("kbd", { "aria-hidden": "true" }, "/"), found),
        make("label", { class: "order" }, make("span", {}, "Sort by"), order))),
    empty, cards);

  const grid = virtualGrid(cards, { minWidth: 300, gap: 24, height: (width) => width * 0.75 + 205, make: card, release: (old) => forget(old) });

  function arrange() {
    kept.words = filter.value;
    kept.order = order.value;
    const words = filter.value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const all = store.nowhere.size ? [...store.clusters, store.nowhere] : store.clusters;
    const compare = ORDERS[order.value][1];
    shown = all.filter((cluster) => words.every((word) => `${nameOf(cluster)} ${cluster.runner_up ?? ""}`.toLocaleLowerCase().includes(word)))
      .sort((a, b) => (a.uid === NOWHERE) - (b.uid === NOWHERE) || compare(a, b));
    for (const uid of [...chosen]) if (!store.cluster(uid)) chosen.delete(uid);
    found.textContent = words.length ? `${count(shown.length)} of ${count(all.length)}` : "";
    facts.textContent = `${store.things(store.about.n_images)} in ${count(store.clusters.length)} clusters`;
    empty.replaceChildren(...(shown.length ? [] : [message(all.length ? "No cluster has such a name." : "There are no clusters.")]));
    grid.show(shown.length);
    offer();
  }

  function card(i) {
    const cluster = shown[i];
    const name = nameOf(cluster);
    const lost = cluster.uid === NOWHERE;
    const covers = (cluster.medoids ?? []).slice(0, 3);
    const strip = cluster.doubtful?.length ? cluster.doubtful : cluster.typical ?? [];
    return paint(make("div", { class: `card${chosen.has(cluster.uid) ? " chosen" : ""}`, role: "listitem", "aria-posinset": i + 1, "aria-setsize": shown.length, "data-i": i, "data-uid": cluster.uid },
      make("div", { class: `mosaic of-${covers.length}` }, ...covers.map((row, j) => picture(row, { size: j ? 192 : 384 }))),
      lost ? null : make("label", { class: "choose" }, make("input", { type: "checkbox", checked: chosen.has(cluster.uid), "aria-label": `Select ${name}` }), make("i", { class: "tick", "aria-hidden": "true" })),
      make("div", { class: "about" },
        make("h2", {}, make("i", { class: "dot", "aria-hidden": "true" }), make("a", { class: "open", href: to("cluster", { uid: cluster.uid }) }, make("bdi", { title: name }, name))),
        make("span", { class: "size" }, store.things(cluster.size))),
      make("div", { class: "about more" },
        make("p", { class: "votes" }, cluster.runner_up ? ["or ", make("bdi", {}, cluster.runner_up)] : null),
        lost || cluster.confidence === null ? null : make("div", { class: "sure" }, make("meter", { min: 0, max: 1, value: cluster.confidence, "aria-hidden": "true" }), make("span", {}, `${percent(cluster.confidence)} sure`))),
      make("div", { class: "strip" }, make("p", { class: "strip-name" }, lost ? "Among them" : cluster.doubtful?.length ? "Doubtful" : "Typical"),
        make("div", { class: "tiles" }, ...strip.slice(0, 6).map((row) => picture(row, { size: 96 }))))), cluster);
  }

  function offer() {
    const uids = [...chosen];
    if (!uids.length) { actions.offer(null); return; }
    const clear = () => { chosen.clear(); mark(); };
    actions.offer(`${uids.length} ${uids.length === 1 ? "cluster" : "clusters"} selected`, [
      { key: "g", label: uids.length === 1 ? "Merge with …" : "Merge", run: async () => { if (await actions.merge(uids)) clear(); } },
      ...(uids.length === 1 ? [
        { key: "r", label: "Rename", run: () => actions.rename(uids[0]) },
        { key: "p", label: "Split", run: () => actions.split(uids[0]) }] : []),
      { key: "Escape", label: "Clear", run: clear, quiet: true }]);
  }

  function mark() {
    for (const element of cards.children) {
      const on = chosen.has(Number(element.dataset.uid));
      element.classList.toggle("chosen", on);
      const box = element.querySelector("input");
      if (box) box.checked = on;
    }
    offer();
  }

  function toggle(uid) {
    if (uid === NOWHERE) return;
    if (!chosen.delete(uid)) chosen.add(uid);
    mark();
  }

  cards.addEventListener("change", (event) => toggle(Number(event.target.closest(".card").dataset.uid)));
  cards.addEventListener("click", (event) => {
    const element = event.target.closest(".card");
    if (!element || event.target.closest("a, label")) return;
    const uid = Number(element.dataset.uid);
    if (chosen.size || event.ctrlKey || event.metaKey) toggle(uid);
    else go(to("cluster", { uid }));
  });
  cards.addEventListener("focusin", (event) => grid.pin(Number(event.target.closest(".card").dataset.i)));
  cards.addEventListener("keydown", (event) => {
    const element = event.target.closest(".card");
    if (!element || event.ctrlKey || event.metaKey || event.altKey) return;
    const i = Number(element.dataset.i);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, Home: -i, End: shown.length - 1 - i };
    if (event.key === "x") toggle(Number(element.dataset.uid));
    else if (event.key in steps) {
      const next = i + steps[event.key];
      if (next >= 0 && next < shown.length) grid.reveal(next).querySelector(".open").focus({ preventScroll: true });
    } else return;
    event.preventDefault();
  });
  const onKey = (event) => {
    if (event.key === "/" && !isTyping(event) && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      filter.focus();
      filter.select();
    }
  };
  document.addEventListener("keydown", onKey);
  filter.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { filter.value = ""; arrange(); }
    if (event.key === "Enter" && shown.length) grid.reveal(0).querySelector(".open").focus();
  });
  filter.addEventListener("input", arrange);
  order.addEventListener("change", arrange);
  const off = store.subscribe(arrange);
  actions.home(byId("view"));
  arrange();
  return () => {
    off();
    grid.stop();
    document.removeEventListener("keydown", onKey);
    actions.offer(null);
  };
}
