// The card of a cluster: covers, name, size, how sure, and a strip of what is doubtful.
//
//   clusterCard(cluster, {store, to, i, n, chosen})   the element, number i of n
//   numberCard(element, i, n), markCard(element, chosen)

import { make, NOWHERE, nameOf, paint, percent } from "./dom.js";
import { picture } from "./pictures.js";

const STRIP = 6;

export function clusterCard(cluster, { store, to, i, n, chosen }) {
  const name = nameOf(cluster);
  const lost = cluster.uid === NOWHERE;
  const covers = cluster.medoids.slice(0, 3);
  const [label, strip] = lost ? ["Among them", cluster.typical] : cluster.doubtful.length ? ["Doubtful", cluster.doubtful] : ["Typical", cluster.typical];
  const element = make("div", { class: "card", role: "listitem", "data-uid": cluster.uid },
    make("div", { class: `mosaic of-${covers.length}` }, ...covers.map((row, j) => picture(row, { size: j ? 192 : 384 }))),
    lost ? null : make("label", { class: "choose" }, make("input", { type: "checkbox", "aria-label": `Select ${name}` }), make("i", { class: "tick", "aria-hidden": "true" })),
    make("div", { class: "about" },
      make("h2", {}, make("i", { class: "dot", "aria-hidden": "true" }), make("a", { class: "open", href: to("cluster", { uid: cluster.uid }) }, make("bdi", { title: name }, name))),
      make("span", { class: "size" }, store.things(cluster.size))),
    make("div", { class: "about more" },
      make("p", { class: "votes" }, cluster.runner_up ? ["or ", make("bdi", { title: cluster.runner_up }, cluster.runner_up)] : null),
      lost || cluster.confidence === null ? null : make("div", { class: "sure" },
        make("meter", { min: 0, max: 1, value: cluster.confidence, "aria-hidden": "true" }), make("span", {}, `${percent(cluster.confidence)} sure`))),
    make("div", { class: "strip" }, make("p", { class: "strip-name" }, strip.length ? label : ""),
      make("div", { class: "tiles" }, ...strip.slice(0, STRIP).map((row) => picture(row, { size: 96 })))));
  numberCard(element, i, n);
  markCard(element, chosen);
  return paint(element, cluster);
}

export function numberCard(element, i, n) {
  element.dataset.i = i;
  element.setAttribute("aria-posinset", i + 1);
  element.setAttribute("aria-setsize", n);
}

export function markCard(element, chosen) {
  element.classList.toggle("chosen", chosen);
  const box = element.querySelector("input");
  if (box) box.checked = chosen;
}
