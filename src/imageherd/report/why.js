// Why so many clusters: what the clustering says of itself, and the curve that chose their number.
function draw(tag, attributes, ...children) {
  const element = document.createElementNS(byId("curve").namespaceURI, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const minus = (score) => String(Number(score.toPrecision(3))).replace("-", "−");

function drawCurve({ ks, scores, chosen, runners_up: others, rule }) {
  const [width, height, left, right, top, bottom] = [300, 96, 10, 10, 12, 20];
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const x = (k) => left + ((k - ks[0]) / (ks[ks.length - 1] - ks[0])) * (width - left - right);
  const y = (score) => top + ((high - score) / (high - low || 1)) * (height - top - bottom);
  const about = `${rule ? `The rule ${rule}` : "What counted"} tried ${ks[0]} to ${ks[ks.length - 1]} clusters and chose ${chosen}`;
  const svg = byId("curve");
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, width, height, "aria-label": about })) svg.setAttribute(key, value);
  // Where chance lies inside the curve, it is worth a line.
  if (low < 0 && high > 0) svg.append(draw("line", { class: "zero", x1: left, x2: width - right, y1: y(0), y2: y(0) }));
  svg.append(draw("polyline", { points: ks.map((k, i) => `${x(k).toFixed(1)},${y(scores[i]).toFixed(1)}`).join(" ") }));
  ks.forEach((k, i) => {
    const kind = k === chosen ? "chosen" : others.includes(k) ? "next" : "tried";
    svg.append(draw("circle", { class: kind, cx: x(k), cy: y(scores[i]), r: kind === "chosen" ? 5 : 3.5 },
      draw("title", {}, document.createTextNode(`${plural(k, "cluster", "clusters")}: ${minus(scores[i])}`))));
  });
  const place = (k) => (k === ks[0] ? "start" : k === ks[ks.length - 1] ? "end" : "middle");
  const near = (k) => k !== chosen && Math.abs(x(k) - x(chosen)) < 22;
  for (const k of new Set([ks[0], chosen, ks[ks.length - 1]])) {
    if (!near(k)) svg.append(draw("text", { class: k === chosen ? "chosen" : "", x: x(k), y: height - 4, "text-anchor": place(k) }, document.createTextNode(count(k))));
  }
}

function showWhy() {
  const { said, curve } = report.why;
  if (!said.length) return;
  byId("why").hidden = false;
  byId("why-said").append(...said.map((sentence) => make("p", {}, make("bdi", {}, sentence))));
  if (!curve) return;
  byId("why").querySelector("figure").hidden = false;
  drawCurve(curve);
}

showWhy();
