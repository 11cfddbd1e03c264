// One cluster, or what fits nowhere: its images by typicality or doubt, and what can be done with them.

import * as api from "./api.js";
import { heading, make, message, NOWHERE, nameOf, paint, percent } from "./dom.js";
import { imageTiles, sureness } from "./tiles.js";

const ORDERS = { typical: "Most typical first", doubtful: "Most doubtful first", row: "As they came" };
const kept = { order: "typical" };

export async function show(root, context) {
  const { store, actions, go, to, params: { uid } } = context;
  if (!store.cluster(uid)) {
    root.append(heading("No such cluster"), message("It may have been merged into another: History says which."), make("p", {}, make("a", { class: "plain", href: to("clusters") }, "All clusters")));
    return () => {};
  }
  const head = make("div", { class: "view-head" });
  const order = make("select", { id: "order" }, ...Object.entries(ORDERS).map(([value, label]) => make("option", { value, selected: value === kept.order }, label)));
  const tiles = imageTiles({
    context, label: nameOf(store.cluster(uid)), n: store.cluster(uid).size, remark: sureness,
    page: async (offset, limit, signal) => (await api.get(`${api.of(store.name, "clusters", uid, "members")}?order=${order.value}&offset=${offset}&limit=${limit}`, { signal })).items,
  });
  const title = heading("");
  const facts = make("p", { class: "facts-line" });
  const lost = uid === NOWHERE;
  head.append(make("div", {}, title, facts),
    make("div", { class: "controls" },
      lost ? null : make("button", { type: "button", class: "plain", id: "rename", onclick: () => actions.rename(uid) }, "Rename"),
      lost ? null : make("button", { type: "button", class: "plain", id: "merge", onclick: async () => { const answer = await actions.merge([uid]); if (answer && !store.cluster(uid)) go(to("clusters")); } }, "Merge with …"),
      lost ? null : make("button", { type: "button", class: "plain", id: "split", onclick: () => actions.split(uid) }, "Split …"),
      make("label", { class: "order" }, make("span", {}, "Order"), order)));
  root.append(head, tiles.element);

  function describe() {
    const cluster = store.cluster(uid);
    title.replaceChildren(make("bdi", {}, nameOf(cluster)));
    paint(title, cluster);
    facts.textContent = [store.things(cluster.size), !lost && cluster.confidence !== null && `${percent(cluster.confidence)} sure on average`, cluster.runner_up && `or ${cluster.runner_up}`].filter(Boolean).join(" · ");
  }

  order.addEventListener("change", () => { kept.order = order.value; tiles.reload(store.cluster(uid).size); });
  const off = store.subscribe(({ uids }) => {
    if (!store.cluster(uid)) { go(to("clusters")); return; }
    describe();
    if (!uids || uids.has(uid)) tiles.reload(store.cluster(uid).size);
  });
  describe();
  return () => { off(); tiles.stop(); };
}
