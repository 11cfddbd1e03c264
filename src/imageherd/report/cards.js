// One card per cluster; sorting, filtering, and moving among them with the keyboard.
const cards = clusters.map(card);

function strip(label, numbers, about) {
  if (!numbers.length) return null;
  const tiles = make("div", { class: "tiles" });
  tiles.fill = () => tiles.append(...numbers.map((number) => picture(number, fileName(report.paths[number]))));
  return make("div", { class: "strip" }, make("h4", { title: about }, label), tiles);
}

function card(cluster, index) {
  const name = nameOf(cluster);
  const lost = cluster.uid === NOWHERE;
  const votes = cluster.share === null ? "" : `${percent(cluster.share)} of votes`;
  const orElse = cluster.runner_up ? make("span", {}, "or ", make("bdi", {}, cluster.runner_up)) : null;
  const sure = lost || cluster.confidence === null ? null : make("div", { class: "sure" },
    make("meter", { min: 0, max: 1, value: cluster.confidence, "aria-label": "Confidence" }),
    make("span", {}, `${percent(cluster.confidence)} sure`));
  const open = make("button", { type: "button", class: "open", "aria-haspopup": "dialog",
    "aria-label": `${name}, ${plural(cluster.size, "image", "images")}: show all members`,
    onclick: () => openMembers(index, open) }, make("bdi", { title: name }, name));
  const mosaic = make("div", { class: `mosaic of-${Math.min(cluster.medoids.length, 3)}` });
  mosaic.fill = () => mosaic.append(...cluster.medoids.slice(0, 3).map((number) => picture(number, `${name}: ${fileName(report.paths[number])}`)));
  const element = make("article", { class: "card", "data-index": index }, mosaic,
    make("div", { class: "about" },
      make("h3", {}, make("i", { class: "dot", "aria-hidden": "true" }), open),
      make("span", { class: "size" }, plural(cluster.size, "image", "images"))),
    make("div", { class: "about more" },
      make("p", { class: "votes" }, votes, orElse && votes ? " · " : null, orElse), sure),
    strip(lost ? "Among them" : "Typical", cluster.typical, lost ? "" : "The members most like all the others"),
    lost ? null : strip("Doubtful", cluster.doubtful, "The members the clustering is least sure of: look here first for mistakes"));
  element.open = open;
  return element;
}

// Pictures enter a card when it comes near the window: a thousand cards stay quick to open.
function fillCard(element) {
  nearby.unobserve(element);
  if (element.dataset.filled) return;
  element.dataset.filled = "true";
  for (const holder of element.querySelectorAll(".mosaic, .tiles")) holder.fill();
}

const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) fillCard(entry.target);
}, { rootMargin: "800px" });

const orders = {
  found: () => 0,
  size: (a, b) => b.size - a.size,
  name: (a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true, sensitivity: "base" }),
  confidence: (a, b) => (b.confidence ?? -1) - (a.confidence ?? -1),
  doubt: (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2),
};

function arrange() {
  const order = orders[byId("sort").value];
  const words = byId("filter").value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
  // What fits nowhere is no cluster: it stays last, whatever the order.
  const lost = (i) => (clusters[i].uid === NOWHERE ? 1 : 0);
  const sorted = clusters.map((_, i) => i).sort((i, j) => lost(i) - lost(j) || order(clusters[i], clusters[j]) || i - j);
  let shown = 0;
  for (const i of sorted) {
    const text = `${nameOf(clusters[i])} ${clusters[i].runner_up ?? ""}`.toLocaleLowerCase();
    cards[i].hidden = !words.every((word) => text.includes(word));
    if (!cards[i].hidden) shown += 1;
  }
  byId("cards").replaceChildren(...sorted.map((i) => cards[i]));
  if (!shown) byId("cards").append(make("p", { class: "waiting" }, clusters.length ? "No cluster has such a name." : "There are no clusters."));
  byId("shown").textContent = shown === clusters.length ? "" : `${count(shown)} of ${count(clusters.length)} shown`;
}

function paintCards() {
  cards.forEach((element, i) => element.style.setProperty("--colour", colourOf(i)));
}

// Up and down go to the nearest card of the next row, wherever the grid happens to break.
function beside(element, key) {
  const visible = [...byId("cards").querySelectorAll(".card:not([hidden])")];
  const at = visible.indexOf(element);
  if (key === "Home") return visible[0];
  if (key === "End") return visible[visible.length - 1];
  if (key === "ArrowLeft" || key === "ArrowRight") return visible[at + (key === "ArrowRight" ? 1 : -1)];
  const middle = (box) => box.left + box.width / 2;
  const from = element.getBoundingClientRect();
  const down = key === "ArrowDown";
  let best = null;
  let bestTop = 0;
  for (const other of down ? visible.slice(at + 1) : visible.slice(0, at).reverse()) {
    const box = other.getBoundingClientRect();
    if (Math.abs(box.top - from.top) < 2) continue;
    if (best && Math.abs(box.top - bestTop) > 2) break;
    if (!best || Math.abs(middle(box) - middle(from)) < Math.abs(middle(best.getBoundingClientRect()) - middle(from))) best = other;
    bestTop = box.top;
  }
  return best;
}

const MOVES = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"]);

byId("cards").addEventListener("keydown", (event) => {
  const element = event.target.closest(".card");
  if (!element || !MOVES.has(event.key)) return;
  const next = beside(element, event.key);
  if (!next) return;
  event.preventDefault();
  next.open.focus();
  next.scrollIntoView({ block: "nearest" });
});

// A click anywhere on the card opens it; the button is what a keyboard or a screen reader meets.
byId("cards").addEventListener("click", (event) => {
  const element = event.target.closest(".card");
  if (element && !event.target.closest("button")) openMembers(Number(element.dataset.index), element.open);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing && !byId("members").open) {
    event.preventDefault();
    byId("filter").focus();
    byId("filter").select();
  } else if (event.key === "Escape" && event.target === byId("filter")) {
    byId("filter").value = "";
    arrange();
  }
});

byId("filter").addEventListener("input", arrange);
byId("sort").addEventListener("change", arrange);
document.addEventListener("themechange", paintCards);
addEventListener("beforeprint", () => cards.forEach(fillCard));

arrange();
paintCards();
cards.forEach((element) => nearby.observe(element));
