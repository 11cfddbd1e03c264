// What lies over the points: names of clusters, the point under the cursor, the lasso and the box.
const MOST_NAMES = 400;
const LINE = 22;
const LONGEST = 32;
const SAMPLE = 200_000;

// The middle of each group in map units: the medians of those among the first points.
export function middles(places, codes, nCodes) {
  const n = Math.min(codes.length, SAMPLE);
  const members = Array.from({ length: nCodes }, () => []);
  for (let i = 0; i < n; i += 1) members[codes[i]]?.push(i);
  const median = (points, axis) => Float64Array.from(points, (i) => places[2 * i + axis]).sort()[points.length >> 1];
  return members.map((points) => (points.length ? [median(points, 0), median(points, 1)] : null));
}

export function overlay(canvas, plane) {
  const context = canvas.getContext("2d");
  const widths = new Map();
  const shown = { names: [], hover: null, outline: null, cursor: false };
  let waiting = 0;

  const short = (name) => ([...name].length > LONGEST ? `${[...name].slice(0, LONGEST - 1).join("")}…` : name);

  function widthOf(name) {
    if (!widths.has(name)) widths.set(name, context.measureText(name).width);
    return widths.get(name);
  }

  // names come with the most important first; one that would cover another is left out.
  function drawNames(ink, card) {
    const { width, height } = plane.view;
    Object.assign(context, { textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: 4, strokeStyle: card, fillStyle: ink });
    const taken = new Map();
    for (const { name, at } of shown.names) {
      if (taken.size >= MOST_NAMES) break;
      const [middle, y] = plane.toScreen(...at);
      if (middle < 0 || middle > width || y < LINE || y > height - LINE) continue;
      const text = short(name);
      const half = widthOf(text) / 2 + 10;
      const x = Math.max(half, Math.min(middle, width - half));
      const band = Math.floor(y / LINE);
      const near = [band - 1, band, band + 1].flatMap((b) => taken.get(b) ?? []);
      if (near.some(([a, b, h]) => Math.abs(a - x) < h + half && Math.abs(b - y) < LINE)) continue;
      taken.set(band, [...(taken.get(band) ?? []), [x, y, half]]);
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    }
  }

  function drawOutline(ink, accent) {
    if (!shown.outline) return;
    context.beginPath();
    shown.outline.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.globalAlpha = 0.14;
    context.fillStyle = accent;
    context.fill();
    context.globalAlpha = 1;
    Object.assign(context, { strokeStyle: accent, lineWidth: 2 });
    context.stroke();
  }

  function draw() {
    waiting = 0;
    if (canvas.hidden) return;
    const style = getComputedStyle(canvas);
    const [ink, card, accent] = ["--ink", "--card", "--accent"].map((name) => style.getPropertyValue(name));
    const { width, height } = plane.view;
    const ratio = canvas.width / width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `600 13px ${style.fontFamily}`;
    drawNames(ink, card);
    Object.assign(context, { strokeStyle: ink, lineWidth: 2 });
    if (shown.hover) {
      const [x, y] = plane.toScreen(shown.hover.x, shown.hover.y);
      context.beginPath();
      context.arc(x, y, shown.hover.radius + 4, 0, 7);
      context.stroke();
    }
    if (shown.cursor) {
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(width / 2 + 5 * dx, height / 2 + 5 * dy);
        context.lineTo(width / 2 + 13 * dx, height / 2 + 13 * dy);
      }
      context.stroke();
    }
    drawOutline(ink, accent);
  }

  return {
    show(some) {
      Object.assign(shown, some);
      waiting ||= requestAnimationFrame(draw);
    },
    stop: () => cancelAnimationFrame(waiting),
  };
}
