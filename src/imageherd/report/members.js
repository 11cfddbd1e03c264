// All members of one cluster: what its name rests on, what is doubtful, then one by one.
const dialog = byId("members");
const CHUNK = 400;
const copyOf = new Map(report.copies.map(([own, of, same]) => [own, { of, same }]));
const copiesOf = new Map();
for (const { of, same } of copyOf.values()) copiesOf.set(of, [...(copiesOf.get(of) ?? []), same]);
let cameFrom = null;

function openMembers(node, opener = null) {
  const cluster = nodes[node];
  cameFrom = opener ?? cameFrom;
  dialog.style.setProperty("--colour", colourOf(node));
  const facts = [things(cluster.size)];
  if (cluster.confidence !== null) facts.push(`${percent(cluster.confidence)} sure on average`);
  if (cluster.runner_up) facts.push(`${naming.or} ${cluster.runner_up}`);
  if (isUnion(node)) facts.push(`${plural(cluster.parts.length, "cluster", "clusters")} in one`);
  const step = (by) => openMembers(shownNodes[(shownNodes.indexOf(node) + by + shownNodes.length) % shownNodes.length]);
  dialog.replaceChildren(
    make("div", { class: "dialog-head" },
      make("div", {},
        make("h2", { id: "members-title" }, make("i", { class: "dot", "aria-hidden": "true" }), make("bdi", {}, nameOf(cluster))),
        make("p", {}, facts.join(" · "))),
      make("div", { class: "dialog-buttons" },
        make("button", { type: "button", "aria-label": "Previous cluster", onclick: () => step(-1) }, "‹"),
        make("button", { type: "button", "aria-label": "Next cluster", onclick: () => step(1) }, "›"),
        make("button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "×"))),
    make("div", { class: "dialog-body", tabindex: 0, "aria-label": "Members" },
      ...(isUnion(node) ? cluster.parts.flatMap(partMembers) : [told(cluster), ...members(cluster)])));
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".dialog-body").scrollTop = 0;
  dialog.querySelector(".dialog-body").focus();
}

function partMembers(part) {
  const heading = make("h3", { class: "part" }, make("bdi", {}, nameOf(clusters[part])), make("span", {}, things(clusters[part].size)));
  return [heading, ...members(clusters[part])];
}

function members(cluster) {
  const pictured = [];
  const plain = [];
  for (let number = cluster.start; number < cluster.start + cluster.listed; number += 1) {
    (isShown(number) ? pictured : plain).push(number);
  }
  return [
    make("p", { class: "legend-text" }, pictured.length === cluster.size ? "From the surest to the most doubtful." :
      `${count(pictured.length)} of ${count(cluster.size)} as ${root.dataset.shows === "words" ? "words" : "pictures"}, from the surest to the most doubtful; the others by path below.`),
    make("div", { class: "wall" }, ...pictured.map((number) => tile(number, repeats(number)))),
    pathList(plain, cluster.more, pictured.length === 0)];
}

// Clusterings made before the vote was kept, or the reasons, say nothing here.
function told(cluster) {
  const parts = [evidence(cluster), worthALook(cluster)].filter(Boolean);
  return parts.length ? make("div", { class: "told" }, ...parts) : "";
}

function evidence(cluster) {
  const { winner, share, lift, voters, runner_up: other, runner_up_share: otherShare } = cluster;
  if (!winner || share === null) return null;
  const said = make("p", {}, make("b", {}, make("bdi", {}, winner)), ` ${naming.got} ${percent(share)} of the ${naming.of}`);
  if (lift) said.append(`, ${lift.toFixed(1)} times as much as in the average cluster`);
  if (other) said.append("; next is ", make("b", {}, make("bdi", {}, other)), otherShare === null ? "" : ` with ${percent(otherShare)}`);
  said.append(".");
  if (voters) said.append(` ${things(voters)} ${naming.gave(voters)} it${cluster.evidence.length ? ", these most clearly:" : "."}`);
  return make("div", { class: "evidence" },
    make("h3", {}, nameOf(cluster).startsWith(winner) ? "Why this name" : "Named by hand; what the vote said"), said,
    make("div", { class: "wall" }, ...cluster.evidence.map((number) => tile(number))));
}

function worthALook(cluster) {
  if (!cluster.reasons.some(Boolean)) return null;
  return make("div", { class: "doubts" }, make("h3", {}, "Doubtful, and why"),
    make("p", {}, "Where this cluster is most likely wrong, the most doubtful first."),
    make("div", { class: "wall" }, ...cluster.doubtful.map((number, i) => tile(number, cluster.reasons[i]))));
}

function repeats(number) {
  const copy = copyOf.get(number);
  if (copy) return `${copy.same ? "copy" : "near-copy"} of ${fileName(report.paths[copy.of])}`;
  const own = copiesOf.get(number);
  if (!own) return "";
  return `has ${own.every(Boolean) ? plural(own.length, "copy", "copies") : plural(own.length, "near-copy", "near-copies")}`;
}

function tile(number, remark = "") {
  const path = report.paths[number];
  return make("figure", { class: copiesOf.has(number) ? "stack" : "" }, picture(number, fileName(path)),
    make("figcaption", { title: path }, report.texts[number] === path ? null : make("bdi", {}, fileName(path)), remark ? make("span", { title: remark }, make("bdi", {}, remark)) : null));
}

// A hundred thousand paths would hang the page: the next few hundred are added as the end nears.
function pathList(numbers, more, open) {
  if (!numbers.length && !more) return "";
  const list = make("ol");
  const end = make("p", { class: "end" });
  let done = 0;
  const extend = () => {
    list.append(...numbers.slice(done, done + CHUNK).map((number) => make("li", { title: report.paths[number] }, make("bdi", {}, report.paths[number]), repeats(number) ? ` (${repeats(number)})` : null)));
    done = Math.min(done + CHUNK, numbers.length);
    if (done < numbers.length) end.replaceChildren(make("button", { type: "button", onclick: extend }, `Show more: ${count(numbers.length - done)} left`));
    else end.textContent = more ? `and ${count(more)} more: see imageherd export` : "";
  };
  const details = make("details", { class: "paths", open },
    make("summary", {}, numbers.length ? `${plural(numbers.length, "path", "paths")} without a picture here` : "Paths"), list, end);
  const watch = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting) || !details.open) return;
    extend();
    // Observing afresh reports again if the end is still in sight.
    watch.unobserve(end);
    if (done < numbers.length) watch.observe(end);
  }, { rootMargin: "600px" });
  details.addEventListener("toggle", () => { if (details.open && done === 0) { extend(); if (done < numbers.length) watch.observe(end); } });
  return details;
}

dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  if (dialog.open) return;
  dialog.replaceChildren();
  if (cameFrom) cameFrom.focus();
  cameFrom = null;
});
dialog.addEventListener("keydown", (event) => {
  if (event.target.closest("ol, summary")) return;
  if (event.key === "ArrowLeft") dialog.querySelector("[aria-label='Previous cluster']").click();
  if (event.key === "ArrowRight") dialog.querySelector("[aria-label='Next cluster']").click();
});

