// Merging and splitting: what will come of it is seen before it is done.
//
//   askMerge(store, uids, use)   use(uids, kept): the cluster whose name stays; gives what use gave, or null
//   askSplit(store, uid, use)    use(parts): lists of rows

import * as api from "./api.js";
import { chooseCluster, ask, told } from "./dialogs.js";
import { count, make, message, named, nameOf, percent } from "./dom.js";
import { picture } from "./pictures.js";

const COVERS = 12;

export async function askMerge(store, uids, use) {
  if (uids.length === 1) {
    const other = await chooseCluster(store, { title: `Merge “${nameOf(store.cluster(uids[0]))}” with …`, except: uids, use: (choice) => choice });
    if (!other) return null;
    uids = [uids[0], other.uid];
  }
  const clusters = uids.map((uid) => store.cluster(uid)).filter(Boolean).sort((a, b) => b.size - a.size || a.uid - b.uid);
  const choices = clusters.map((cluster, i) => make("label", { class: "merging" },
    make("input", { type: "radio", name: "stays", value: cluster.uid, checked: i === 0 }),
    make("span", { class: "covers" }, ...cluster.medoids.slice(0, 3).map((row) => picture(row, { size: 96 }))),
    named(cluster), make("span", { class: "size" }, store.things(cluster.size))));
  const fields = make("fieldset", { class: "merge" }, make("legend", {}, "Which name stays?"), ...choices);
  const sum = clusters.reduce((all, { size }) => all + size, 0);
  return ask({
    title: `Merge ${count(clusters.length)} clusters`, className: "narrow", body: fields, action: `Merge into one of ${store.things(sum)}`,
    take: () => use(clusters.map(({ uid }) => uid), store.cluster(Number(fields.querySelector(":checked").value)) ?? clusters[0]),
    ready: () => fields.querySelector("input").focus(),
  });
}

export function askSplit(store, uid, use) {
  const cluster = store.cluster(uid);
  let parts = null;
  let submit;
  let asked = 0;
  const into = make("select", { class: "field small", id: "split-into" },
    make("option", { value: "2" }, "two parts"), make("option", { value: "auto" }, "as many as it seems to hold"),
    ...Array.from({ length: 18 }, (_, i) => make("option", { value: i + 3 }, `${count(i + 3)} parts`)));
  const preview = make("div", { class: "split" });
  const said = make("p", { class: "quiet", role: "status" });

  async function look() {
    const mine = ++asked;
    parts = null;
    if (submit) submit.disabled = true;
    preview.ariaBusy = "true";
    said.textContent = "Looking how it falls apart …";
    try {
      const answer = await api.get(`${api.of(store.name, "clusters", uid, "split")}?n=${into.value}`);
      if (mine !== asked) return;
      const several = answer.parts.length > 1;
      parts = several ? answer.parts.map(({ rows }) => rows) : null;
      said.textContent = several ? `This is how it would be: ${count(parts.length)} clusters.` : "";
      preview.replaceChildren(...(several ? answer.parts.map(part) : [message("It does not fall apart: this looks like one group.")]));
      if (submit) submit.disabled = !several;
    } catch (error) {
      if (mine !== asked) return;
      said.textContent = "";
      preview.replaceChildren(...told(error), make("p", {}, make("button", { type: "button", class: "plain", onclick: look }, "Try again")));
    }
    preview.ariaBusy = "false";
  }

  const part = ({ size, medoids, name, suggestion }) => make("section", { class: "part" },
    make("h3", {}, make("bdi", {}, name), suggestion ? make("span", { class: "quiet" }, "perhaps ", make("bdi", {}, suggestion)) : null,
      make("span", { class: "size" }, `${store.things(size)} · ${percent(size / cluster.size)}`)),
    make("div", { class: "part-pictures" }, ...medoids.slice(0, COVERS).map((row) => picture(row, { size: 192 }))));

  into.addEventListener("change", look);
  return ask({
    title: `Split “${nameOf(cluster)}”`, action: "Split it so", className: "wide",
    body: [make("div", { class: "line" }, make("label", { for: "split-into" }, "Into"), into, said), preview],
    take: () => parts && use(parts),
    ready(dialog) { submit = dialog.submit; submit.disabled = true; into.focus(); look(); },
  });
}
