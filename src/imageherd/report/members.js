// All members of one cluster: those with a picture as tiles, the others as a list of paths.
const dialog = byId("members");
const CHUNK = 400;
let cameFrom = null;

function openMembers(index, opener = null) {
  const cluster = clusters[index];
  cameFrom = opener ?? cameFrom;
  dialog.style.setProperty("--colour", colourOf(index));
  const pictured = [];
  const plain = [];
  for (let number = cluster.start; number < cluster.start + cluster.listed; number += 1) {
    (report.thumbnails[number] ? pictured : plain).push(number);
  }
  const facts = [plural(cluster.size, "image", "images")];
  if (cluster.confidence !== null) facts.push(`${percent(cluster.confidence)} sure on average`);
  if (cluster.runner_up) facts.push(`or ${cluster.runner_up}`);
  const step = (by) => openMembers((index + by + clusters.length) % clusters.length);
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
      make("p", { class: "legend-text" }, pictured.length === cluster.size ? "From the surest to the most doubtful." :
        `${count(pictured.length)} of ${count(cluster.size)} as pictures, from the surest to the most doubtful; the others by path below.`),
      make("div", { class: "wall" }, ...pictured.map(tile)),
      pathList(plain, cluster.more, pictured.length === 0)));
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".dialog-body").scrollTop = 0;
  dialog.querySelector(".dialog-body").focus();
}

function tile(number) {
  const path = report.paths[number];
  return make("figure", {}, picture(number, fileName(path)), make("figcaption", { title: path }, make("bdi", {}, fileName(path))));
}

// A hundred thousand paths would hang the page: the next few hundred are added as the end nears.
function pathList(numbers, more, open) {
  if (!numbers.length && !more) return "";
  const list = make("ol");
  const end = make("p", { class: "end" });
  let done = 0;
  const extend = () => {
    list.append(...numbers.slice(done, done + CHUNK).map((number) => make("li", { title: report.paths[number] }, make("bdi", {}, report.paths[number]))));
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

root.dataset.cards = cards.length;
