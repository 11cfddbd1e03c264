// One cluster, or what fits nowhere: its images by typicality or doubt, and what can be done with them.

import * as api from "./api.js";
import { heading, isTyping, make, message, NOWHERE, nameOf, paint, percent } from "./dom.js";
import { renameInPlace } from "./rename.js";
import { imageTiles, sureness } from "./tiles.js";

const ORDERS = { typical: "Most typical first", doubtful: "Most doubtful first", row: "As they came" };
const kept = { order: "typical" };
// Asking where each selected image is now, one by one, is worth it for a few only.
const MOST_ASKED = 200;

export async function show(root, context) {
  const { store, select, actions, notices, go, to, signal, params: { uid } } = context;
  const lost = uid === NOWHERE;
  if (!store.cluster(uid)) {
    root.append(heading("No such cluster"), message("It may have been merged with another or split: History says what became of it."),
      make("p", {}, make("a", { class: "plain", href: to("clusters") }, "All clusters")));
    return () => {};
  }

  const order = make("select", { id: "order", "aria-label": "Order of the images" }, ...Object.entries(ORDERS).map(([value, label]) => make("option", { value, selected: value === kept.order }, label)));
  const title = heading("");
  const facts = make("p", { class: "facts-line" });
  const names = make("div", { class: "names" }, title, facts);
  const back = make("a", { class: "back", href: to("clusters", { at: uid }) }, "‹ All clusters");
  const empty = make("div");
  const tiles = imageTiles({
    context, label: nameOf(store.cluster(uid)), n: store.cluster(uid).size, remark: sureness, within: uid,
    page: async (offset, limit, aborted) => (await api.get(`${api.of(store.name, "clusters", uid, "members")}?order=${order.value}&offset=${offset}&limit=${limit}`, { signal: aborted })).items,
  });

  const doing = {
    r: { id: "rename", label: "Rename", run: () => { if (!root.querySelector(".renaming")) renameInPlace({ holder: names, title, store, uid, actions }); } },
    g: { id: "merge", label: "Merge with …", run: () => actions.merge([uid]) },
    p: { id: "split", label: "Split …", run: () => actions.split(uid) },
    "[": { id: "previous", label: "‹", name: "Previous cluster", run: () => step(-1) },
    "]": { id: "next", label: "›", name: "Next cluster", run: () => step(1) },
  };
  const button = ([key, { id, label, name, run }]) => make("button",
    { type: "button", class: name ? "round" : "plain", id, "aria-label": name, title: name ? `${name} (${key})` : null, "aria-keyshortcuts": key, onclick: run },
    label, name ? null : make("kbd", { "aria-hidden": "true" }, key.toUpperCase()));
  const offered = Object.entries(doing).filter(([key]) => !lost || !"rgp".includes(key));
  root.append(back, make("div", { class: "view-head" }, names, make("div", { class: "controls" }, ...offered.map(button), order)), empty, tiles.element);

  function step(by) {
    const all = [...store.clusters, ...(store.nowhere.size ? [store.nowhere] : [])].map((cluster) => cluster.uid);
    go(to("cluster", { uid: all[(all.indexOf(uid) + by + all.length) % all.length] }));
  }

  function describe() {
    const cluster = store.cluster(uid);
    title.replaceChildren(paint(make("i", { class: "dot", "aria-hidden": "true" }), cluster), make("bdi", {}, nameOf(cluster)));
    facts.replaceChildren(store.things(cluster.size), ...(lost || cluster.confidence === null ? [] : [` · ${percent(cluster.confidence)} sure on average`]),
      ...(cluster.runner_up ? [" · or ", make("bdi", {}, cluster.runner_up)] : []));
    empty.replaceChildren(...(cluster.size ? [] : [message(lost ? "Everything fits somewhere." : "There is nothing in it any more.")]));
    tiles.element.setAttribute("aria-label", nameOf(cluster));
    document.title = `${nameOf(cluster)} · ${store.herd.name}`;
  }

  // What somebody else took out of this cluster is no longer meant by a selection made in it.
  async function dropMoved() {
    const rows = select.rows();
    if (!rows.length || rows.length > MOST_ASKED) return;
    const gone = (await Promise.all(rows.map(async (row) => {
      const item = await api.get(api.of(store.name, "items", row), { signal }).catch(() => null);
      return item && item.uid !== uid ? row : null;
    }))).filter((row) => row !== null);
    if (!gone.length) return;
    select.remove(gone);
    notices.say(`${store.things(gone.length)} of those that you had selected ${gone.length === 1 ? "was" : "were"} put elsewhere by somebody else.`);
  }

  function changed({ uids, mine }) {
    if (!store.cluster(uid)) {
      // After a merge, a split, or one taken back, the images are in what came of it.
      const heirs = mine && uids ? store.clusters.filter((cluster) => uids.has(cluster.uid)).map((cluster) => cluster.uid) : [];
      go(heirs.length === 1 ? to("cluster", { uid: heirs[0] }) : to("clusters", heirs.length ? { at: heirs[0] } : {}));
      return;
    }
    describe();
    if (uids && !uids.has(uid)) return;
    tiles.reload(store.cluster(uid).size);
    if (!mine) dropMoved();
  }

  const onKey = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]")) return;
    const wanted = event.key === "F2" ? "r" : event.key;
    const found = offered.find(([key]) => key === wanted);
    if (!found) return;
    event.preventDefault();
    found[1].run();
  };
  document.addEventListener("keydown", onKey);
  order.addEventListener("change", () => { kept.order = order.value; tiles.reload(store.cluster(uid).size); });
  const off = store.subscribe(changed);
  describe();
  tiles.element.focus({ preventScroll: true });
  return () => {
    off();
    tiles.stop();
    document.removeEventListener("keydown", onKey);
  };
}
