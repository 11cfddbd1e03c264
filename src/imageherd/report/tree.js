// Coarser and finer: a node is a cluster as found or a union of some; the slider says which show.
const nodes = [...clusters];
clusters.forEach((cluster, i) => { cluster.parts = [i]; });
growTree();

const least = 2;
const most = report.joins.length + 1;
let shownNodes = clusters.map((_, i) => i);
let nodeOf = [...shownNodes];

function growTree() {
  const top = clusters.map((_, i) => i);
  for (const [left, right] of report.joins) {
    const parts = [...nodes[top[left]].parts, ...nodes[top[right]].parts];
    parts.sort((i, j) => clusters[j].size - clusters[i].size || i - j);
    for (const part of parts) top[part] = nodes.length;
    nodes.push(union(parts));
  }
}

function union(parts) {
  const sum = (key) => parts.reduce((total, i) => total + clusters[i][key], 0);
  return {
    parts, size: sum("size"), uid: null, runner_up: null, share: null, confidence: null,
    name: `${nameOf(clusters[parts[0]])} and ${count(parts.length - 1)} more`,
    medoids: parts.slice(0, 3).flatMap((i) => clusters[i].medoids.slice(0, 1)),
  };
}

const isUnion = (node) => nodes[node].parts.length > 1;
const isLost = (node) => nodes[node].uid === NOWHERE;

function cut(n) {
  nodeOf = clusters.map((_, i) => i);
  for (let node = clusters.length; node < clusters.length + most - n; node += 1) {
    for (const part of nodes[node].parts) nodeOf[part] = node;
  }
  shownNodes = [...new Set(nodeOf)];
  const grain = byId("grain");
  grain.value = n;
  grain.setAttribute("aria-valuetext", plural(n, "cluster", "clusters"));
  byId("grain-now").textContent = n === most ? count(n) : `${count(n)} of ${count(most)}`;
}

// The number is kept in the address, beside whatever else is there: "#dark&n=5".
const inAddress = () => location.hash.slice(1).split("&").filter(Boolean);

function asked() {
  const found = inAddress().map((part) => /^n=(\d+)$/.exec(part)).find(Boolean);
  return found ? Math.min(Math.max(Number(found[1]), least), most) : null;
}

function remember() {
  const n = Number(byId("grain").value);
  const others = inAddress().filter((part) => !part.startsWith("n="));
  history.replaceState(null, "", `#${[...others, ...(n < most ? [`n=${n}`] : [])].join("&")}`);
}

function regroup(n) {
  if (n === Number(byId("grain").dataset.n)) return;
  byId("grain").dataset.n = n;
  cut(n);
  document.dispatchEvent(new Event("regroup"));
}

function startSlider() {
  const grain = byId("grain");
  if (most <= least) return;
  grain.closest("label").hidden = false;
  grain.max = most;
  grain.dataset.n = asked() ?? most;
  cut(Number(grain.dataset.n));
  let waiting = false;
  grain.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; regroup(Number(grain.value)); });
  });
  grain.addEventListener("change", () => { regroup(Number(grain.value)); remember(); });
  // A jump to the map takes the number out of the address; it is put back.
  addEventListener("hashchange", () => { if (asked() === null) remember(); else regroup(asked()); });
}

startSlider();
