// All clusters as cards: their covers, names, sizes, and what to look at first for mistakes.

import * as api from "./api.js";
import { clusterCard, markCard, numberCard } from "./card.js";
import { count, heading, isTyping, make, message, NOWHERE, nameOf, plural } from "./dom.js";
import { forget } from "./pictures.js";
import { virtualGrid } from "./virtual.js";

const ORDERS = {
  size: ["Largest first", (a, b) => b.size - a.size],
  small: ["Smallest first", (a, b) => a.size - b.size],
  name: ["By name", (a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true, sensitivity: "base" })],
  doubt: ["Least sure first", (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2)],
  confidence: ["Surest first", (a, b) => (b.confidence ?? -1) - (a.confidence ?? -1)],
};
const N_COVERS = 12;

// Kept while the page is open, so that a person comes back to what was left.
const kept = { words: "", order: "size" };

export async function show(root, { store, actions, go, to, params, signal }) {
  const chosen = new Set();
  let shown = [];
  let at = 0;
  const filter = make("input", { id: "filter", type: "search", placeholder: "Filter by name", autocomplete: "off", spellcheck: "false", "aria-label": "Filter clusters by name" });
  filter.value = kept.words;
  const order = make("select", { id: "sort", "aria-label": "Order of the clusters" }, ...Object.entries(ORDERS).map(([value, [label]]) => make("option", { value, selected: value === kept.order }, label)));
  const found = make("span", { id: "shown", role: "status" });
  const facts = make("p", { class: "facts-line" });
  const cards = make("div", { class: "cards", role: "list", "aria-label": "Clusters" });
  const empty = make("div");
  root.append(
    make("div", { class: "view-head" }, make("div", {}, heading("Clusters"), facts),
      make("div", { class: "controls" }, make("label", { class: "find" }, filter, make("kbd", { "aria-hidden": "true" }, "/"), found), order)),
    empty, cards);

  const grid = virtualGrid(cards, {
    minWidth: () => 290, gap: () => (innerWidth < 600 ? 16 : 24), height: (width) => (store.herd.noun === "image" ? Math.round(width * 0.75) + (width - 56) / 6 + 124 : 410),
    make: (i) => clusterCard(shown[i], { store, to, i, n: shown.length, chosen: chosen.has(shown[i].uid) }),
    key: (i) => shown[i] ?? null, number: (element, i) => numberCard(element, i, shown.length), release: forget,
  });

  function arrange() {
    kept.words = filter.value;
    kept.order = order.value;
    const words = filter.value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const all = store.nowhere.size ? [...store.clusters, store.nowhere] : store.clusters;
    const compare = ORDERS[order.value][1];
    // What fits nowhere is no cluster: it stays last, whatever the order.
    shown = all.filter((cluster) => words.every((word) => `${nameOf(cluster)} ${cluster.runner_up ?? ""}`.toLocaleLowerCase().includes(word)))
      .sort((a, b) => (a.uid === NOWHERE) - (b.uid === NOWHERE) || compare(a, b));
    for (const uid of [...chosen]) if (!store.cluster(uid)) chosen.delete(uid);
    at = Math.max(0, Math.min(at, shown.length - 1));
    found.textContent = words.length ? `${count(shown.length)} of ${count(all.length)}` : "";
    facts.textContent = `${store.things(store.about.n_images)} in ${plural(store.clusters.length, "cluster", "clusters")}`;
    empty.replaceChildren(...(shown.length ? [] : [message(all.length ? "No cluster has such a name." : "There are no clusters.")]));
    const hadFocus = cards.contains(document.activeElement);
    grid.show(shown.length);
    if (hadFocus && !cards.contains(document.activeElement)) focusOn(at);
    offer();
    coverNowhere();
  }

  // The server's list tells how many fit nowhere, not which: their covers are looked up.
  async function coverNowhere() {
    const { nowhere } = store;
    if (!nowhere.size || nowhere.medoids.length) return;
    const { items } = await api.get(`${api.of(store.name, "clusters", NOWHERE, "members")}?limit=${N_COVERS}`, { signal }).catch(() => ({ items: [] }));
    if (!items.length || nowhere !== store.nowhere) return;
    const rows = items.map(({ row }) => row);
    Object.assign(nowhere, { medoids: rows.slice(0, 3), typical: rows.slice(3) });
    grid.redo(shown.indexOf(nowhere));
  }

  function focusOn(i) {
    if (!shown.length) { filter.focus({ preventScroll: true }); return; }
    at = i;
    grid.pin(i);
    grid.reveal(i).querySelector(".open").focus({ preventScroll: true });
  }

  function offer() {
    const uids = [...chosen];
    if (!uids.length) { actions.offer(null); return; }
    const clear = () => { chosen.clear(); mark(); };
    const single = [{ key: "r", label: "Rename", run: () => actions.rename(uids[0]) }, { key: "p", label: "Split …", run: () => actions.split(uids[0]) }];
    actions.offer(`${plural(uids.length, "cluster", "clusters")} selected`, [
      { key: "g", label: uids.length === 1 ? "Merge with …" : "Merge", run: async () => { if (await actions.merge([...chosen])) clear(); } },
      ...(uids.length === 1 ? single : []),
      { key: "Escape", label: "Clear", run: clear, quiet: true }]);
  }

  function mark() {
    for (const element of cards.children) markCard(element, chosen.has(Number(element.dataset.uid)));
    offer();
  }

  function toggle(uid) {
    if (uid === NOWHERE) return;
    if (!chosen.delete(uid)) chosen.add(uid);
    mark();
  }

  // Coming back from a cluster, by whatever way, leads to its card.
  const remember = (uid) => history.replaceState(null, "", to("clusters", { at: uid }));

  cards.addEventListener("change", (event) => toggle(Number(event.target.closest(".card").dataset.uid)));
  cards.addEventListener("click", (event) => {
    const element = event.target.closest(".card");
    if (!element || event.target.closest("label")) return;
    const uid = Number(element.dataset.uid);
    const isLink = event.target.closest("a");
    if ((event.ctrlKey || event.metaKey || event.shiftKey) && isLink) return;
    if (!isLink && (chosen.size || event.ctrlKey || event.metaKey)) { toggle(uid); return; }
    remember(uid);
    if (!isLink) go(to("cluster", { uid }));
  });
  cards.addEventListener("focusin", (event) => {
    at = Number(event.target.closest(".card").dataset.i);
    grid.pin(at);
  });
  cards.addEventListener("keydown", (event) => {
    const element = event.target.closest(".card");
    if (!element || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, Home: -at, End: shown.length - 1 - at, PageUp: -grid.perScreen, PageDown: grid.perScreen };
    if (event.key === "x") toggle(Number(element.dataset.uid));
    else if (event.key in steps) focusOn(Math.max(0, Math.min(shown.length - 1, at + steps[event.key])));
    else return;
    event.preventDefault();
  });
  const onKey = (event) => {
    if (event.key !== "/" || isTyping(event) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    filter.focus();
    filter.select();
  };
  document.addEventListener("keydown", onKey);
  filter.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { filter.value = ""; arrange(); }
    if (event.key === "Enter" && shown.length) focusOn(0);
  });
  filter.addEventListener("input", arrange);
  order.addEventListener("change", arrange);
  const off = store.subscribe(arrange);
  actions.home(() => focusOn(at));
  arrange();
  const cameFrom = shown.findIndex(({ uid }) => uid === Number(params.query.get("at") ?? NaN));
  if (cameFrom >= 0) focusOn(cameFrom);
  return () => {
    off();
    grid.stop();
    document.removeEventListener("keydown", onKey);
    actions.offer(null);
  };
}
