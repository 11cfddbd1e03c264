// One card per cluster; sorting, filtering, and moving among them with the keyboard.
const cards = [];

function strip(label, numbers, about, reasons = []) {
  if (!numbers.length) return "";
  const tiles = make("div", { class: "tiles" });
  tiles.fill = () => tiles.append(...numbers.map((number, i) => {
    const tile = picture(number, [fileName(report.paths[number]), reasons[i]].filter(Boolean).join(": "));
    if (reasons[i]) tile.title = `${reasons[i]}\n${tile.title}`;
    return tile;
  }));
  return make("div", { class: "strip" }, make("h4", { title: about }, make("bdi", {}, label), mostly(reasons)), tiles);
}

// Of several reasons the most frequent one stands beside the heading.
function mostly(reasons) {
  const tally = new Map();
  for (const reason of reasons.filter(Boolean)) tally.set(reason, (tally.get(reason) ?? 0) + 1);
  if (!tally.size) return null;
  const [reason, n] = [...tally].reduce((best, next) => (next[1] > best[1] ? next : best));
  const share = n === reasons.length ? "" : `${count(n)} of ${count(reasons.length)}: `;
  return make("span", { class: "reason" }, share, make("bdi", { title: reason }, reason));
}

// Made when first shown, and kept for when the slider comes back.
function cardOf(node) {
  if (!cards[node]) {
    cards[node] = card(node);
    nearby.observe(cards[node]);
  }
  return cards[node];
}

function card(node) {
  const cluster = nodes[node];
  const name = nameOf(cluster);
  const open = make("button", { type: "button", class: "open", "aria-haspopup": "dialog",
    "aria-label": `${name}, ${things(cluster.size)}: show all members`,
    onclick: () => openMembers(node, open) }, make("bdi", { title: name }, name));
  const mosaic = make("div", { class: `mosaic of-${Math.min(cluster.medoids.length, 3)}` });
  mosaic.fill = () => mosaic.append(...cluster.medoids.slice(0, 3).map((number) => picture(number, `${name}: ${fileName(report.paths[number])}`)));
  const element = make("article", { class: "card", "data-node": node }, mosaic,
    make("div", { class: "about" },
      make("h3", {}, make("i", { class: "dot", "aria-hidden": "true" }), open),
      make("span", { class: "size" }, things(cluster.size))),
    ...(isUnion(node) ? partsOf(cluster) : factsOf(cluster)));
  element.open = open;
  return element;
}

function factsOf(cluster) {
  const lost = cluster.uid === NOWHERE;
  const votes = cluster.share === null ? "" : `${percent(cluster.share)} of ${naming.of}`;
  const orElse = cluster.runner_up ? make("span", {}, `${naming.or} `, make("bdi", {}, cluster.runner_up)) : null;
  const sure = lost || cluster.confidence === null ? null : make("div", { class: "sure" },
    make("meter", { min: 0, max: 1, value: cluster.confidence, "aria-label": "Confidence" }),
    make("span", {}, `${percent(cluster.confidence)} sure`));
  return [
    make("div", { class: "about more" },
      make("p", { class: "votes" }, votes, orElse && votes ? " · " : null, orElse), sure),
    strip(lost ? "Among them" : "Typical", cluster.typical, lost ? "" : "The members most like all the others"),
    lost ? null : strip("Doubtful", cluster.doubtful, "Look here first for mistakes", cluster.reasons),
  ].filter(Boolean);
}

// A union shows what it is made of, the largest first.
function partsOf({ parts }) {
  const rest = parts.slice(2).map((i) => nameOf(clusters[i])).join(", ");
  return [
    make("div", { class: "about more" }, make("p", { class: "votes", title: rest },
      `${plural(parts.length, "cluster", "clusters")} in one${rest ? ", with " : ""}`, make("bdi", {}, rest))),
    ...parts.slice(0, 2).map((i) => strip(`${nameOf(clusters[i])}, ${count(clusters[i].size)}`, [...clusters[i].medoids, ...clusters[i].typical].slice(0, 6), "")),
  ];
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

// What a card can be found by: its name and the second one, of every part.
const wordsOf = (node) => nodes[node].parts
  .map((i) => `${nameOf(clusters[i])} ${clusters[i].runner_up ?? ""}`).join(" ").toLocaleLowerCase();

function arrange() {
  const order = orders[byId("sort").value];
  const words = byId("filter").value.trim().toLocaleLowerCase().split(/\s+/).filter(Boolean);
  // What fits nowhere is no cluster: it stays last, whatever the order.
  const sorted = [...shownNodes].sort((i, j) => isLost(i) - isLost(j) || order(nodes[i], nodes[j]));
  let shown = 0;
  for (const node of sorted) {
    const text = words.length ? wordsOf(node) : "";
    cardOf(node).hidden = !words.every((word) => text.includes(word));
    if (!cards[node].hidden) shown += 1;
  }
  byId("cards").replaceChildren(...sorted.map(cardOf));
  if (!shown) byId("cards").append(make("p", { class: "waiting" }, clusters.length ? "No cluster has such a name." : "There are no clusters."));
  byId("shown").textContent = words.length ? `${count(shown)} of ${count(sorted.length)}` : "";
  paintCards();
}

function paintCards() {
  for (const node of shownNodes) cardOf(node).style.setProperty("--colour", colourOf(node));
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
  if (element && !event.target.closest("button")) openMembers(Number(element.dataset.node), element.open);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=range]), select, textarea");
  if (event.key === "/" && !typing && !byId("members").open) {
    event.preventDefault();
    byId("filter").focus();
    byId("filter").select();
  } else if (event.target === byId("filter") && event.key === "Escape") {
    byId("filter").value = "";
    arrange();
  } else if (event.target === byId("filter") && event.key === "Enter") {
    byId("cards").querySelector(".card:not([hidden])")?.open.focus();
  }
});

byId("filter").addEventListener("input", arrange);
byId("sort").addEventListener("change", arrange);
document.addEventListener("themechange", paintCards);
document.addEventListener("regroup", arrange);
addEventListener("beforeprint", () => shownNodes.forEach((node) => fillCard(cardOf(node))));

arrange();
