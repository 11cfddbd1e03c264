// The 2-D map: dots coloured by cluster on a canvas, with names, highlighting and thumbnails.
if (report.map) startMap(report.map);
else byId("to-map").hidden = true;
root.dataset.ready = "true";

function startMap(encoded) {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const xs = new Uint16Array(bytes(encoded.x));
  const ys = new Uint16Array(bytes(encoded.y));
  const of = new Uint32Array(bytes(encoded.cluster));
  const image = new Uint32Array(bytes(encoded.image));
  const n = xs.length;
  const EXTENT = 65535;
  const canvas = byId("canvas");
  const context = canvas.getContext("2d");
  const tip = byId("tip");
  const groups = clusters.map(() => []);
  for (let i = 0; i < n; i += 1) groups[of[i]].push(i);
  const pictured = groups.map((points) => points.filter((i) => isShown(image[i])));
  const centres = [];
  const buckets = bucketed();
  const marked = new Set();
  let width = 0;
  let height = 0;
  let view = { zoom: 1, x: EXTENT / 2, y: EXTENT / 2 };
  let hovered = -1;
  let waiting = false;

  byId("map").hidden = false;
  byId("map-about").textContent = encoded.drawn === encoded.total ? things(n) : `${count(n)} of ${things(encoded.total)}`;

  function median(points, values) {
    const sorted = Float64Array.from(points, (i) => values[i]).sort();
    return sorted.length ? sorted[sorted.length >> 1] : EXTENT / 2;
  }

  function middleOf(node) {
    if (!centres[node]) {
      const points = nodes[node].parts.flatMap((part) => groups[part]);
      centres[node] = [median(points, xs), median(points, ys)];
    }
    return centres[node];
  }

  // The plane in 64 x 64 squares, so that pointing looks at a few dots, not at all of them.
  function bucketed() {
    const squares = Array.from({ length: 4096 }, () => []);
    for (let i = 0; i < n; i += 1) squares[((ys[i] >> 10) << 6) | (xs[i] >> 10)].push(i);
    return squares;
  }

  const scale = () => (view.zoom * (Math.min(width, height) - 48)) / EXTENT;
  const toScreen = (x, y) => [(x - view.x) * scale() + width / 2, (view.y - y) * scale() + height / 2];
  const toPlane = (sx, sy) => [(sx - width / 2) / scale() + view.x, view.y - (sy - height / 2) / scale()];
  const radius = () => Math.min(Math.max(90 / Math.sqrt(n), 1.2), 5.5) * Math.min(Math.sqrt(view.zoom), 3);

  function resize() {
    const box = canvas.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    [width, height] = [box.width, box.height];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw();
  }

  // Shapes change once the colours have all been used, so that equal colours still differ.
  function shape(x, y, r, form) {
    if (form === 0 && r > 1.6) { context.moveTo(x + r, y); context.arc(x, y, r, 0, 7); }
    else if (form === 1 || r <= 1.6) context.rect(x - r, y - r, 2 * r, 2 * r);
    else if (form === 2) { context.moveTo(x, y - 1.3 * r); context.lineTo(x + 1.2 * r, y + r); context.lineTo(x - 1.2 * r, y + r); context.closePath(); }
    else { context.moveTo(x, y - 1.5 * r); context.lineTo(x + 1.1 * r, y); context.lineTo(x, y + 1.5 * r); context.lineTo(x - 1.1 * r, y); context.closePath(); }
  }

  function drawGroup(node) {
    const dim = marked.size > 0 && !marked.has(node);
    const r = radius() * (marked.has(node) ? 1.25 : 1);
    const form = Math.floor(nodes[node].parts[0] / report.palette.length) % 4;
    context.globalAlpha = dim ? 0.09 : 0.82;
    context.fillStyle = colourOf(node);
    context.beginPath();
    for (const part of nodes[node].parts) {
      for (const i of groups[part]) {
        const [x, y] = toScreen(xs[i], ys[i]);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        shape(x, y, r, form);
      }
    }
    context.fill();
  }

  function drawNames() {
    const style = getComputedStyle(canvas);
    context.globalAlpha = 1;
    context.font = `600 13px ${style.fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4;
    context.strokeStyle = style.getPropertyValue("--card");
    context.fillStyle = style.color;
    const taken = [];
    const wanted = shownNodes.filter((node) => nodes[node].parts.some((part) => groups[part].length) && !isLost(node) && (!marked.size || marked.has(node)));
    wanted.sort((i, j) => nodes[j].size - nodes[i].size);
    for (const node of wanted.slice(0, 400)) {
      const name = [...nameOf(nodes[node])].slice(0, 40).join("");
      const [x, y] = toScreen(...middleOf(node));
      const half = context.measureText(name).width / 2 + 4;
      if (x < half || x > width - half || y < 12 || y > height - 12) continue;
      if (taken.some(([a, b, h]) => Math.abs(a - x) < h + half && Math.abs(b - y) < 18)) continue;
      taken.push([x, y, half]);
      context.strokeText(name, x, y);
      context.fillText(name, x, y);
    }
  }

  function draw() {
    waiting = false;
    if (!width) return;
    context.clearRect(0, 0, width, height);
    shownNodes.forEach((node) => { if (!marked.has(node)) drawGroup(node); });
    marked.forEach(drawGroup);
    drawNames();
    if (hovered >= 0) {
      const [x, y] = toScreen(xs[hovered], ys[hovered]);
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, radius() + 3, 0, 7);
      context.stroke();
    }
    canvas.dataset.pointsDrawn = n;
    canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
  }

  function redraw() {
    if (!waiting) { waiting = true; requestAnimationFrame(draw); }
  }

  function nearest(sx, sy) {
    const reach = radius() + 8;
    const [x0, y1] = toPlane(sx - reach, sy - reach);
    const [x1, y0] = toPlane(sx + reach, sy + reach);
    const square = (v) => Math.max(0, Math.min(63, v >> 10));
    let best = -1;
    let bestDistance = reach * reach;
    for (let row = square(y0); row <= square(y1); row += 1) {
      for (let column = square(x0); column <= square(x1); column += 1) {
        for (const i of buckets[(row << 6) | column]) {
          if (marked.size && !marked.has(nodeOf[of[i]])) continue;
          const [x, y] = toScreen(xs[i], ys[i]);
          const distance = (x - sx) ** 2 + (y - sy) ** 2;
          if (distance < bestDistance) { best = i; bestDistance = distance; }
        }
      }
    }
    return best;
  }

  // Not every picture is in the file: the closest of the same cluster that is stands in, and says so.
  function standIn(point) {
    const distance = (i) => (xs[i] - xs[point]) ** 2 + (ys[i] - ys[point]) ** 2;
    return pictured[of[point]].reduce((best, i) => (best < 0 || distance(i) < distance(best) ? i : best), -1);
  }

  function showTip(point, sx, sy) {
    if (point === hovered) return;
    hovered = point;
    canvas.style.cursor = point < 0 ? "" : "pointer";
    tip.hidden = point < 0;
    redraw();
    if (point < 0) return;
    const own = image[point] !== NO_NUMBER;
    const shown = isShown(image[point]) ? point : standIn(point);
    tip.style.setProperty("--colour", colourOf(nodeOf[of[point]]));
    const path = own ? report.paths[image[point]] : "path not listed here: see imageherd export";
    tip.replaceChildren();
    if (shown >= 0) tip.append(picture(image[shown], ""));
    tip.append(make("p", { class: "tip-name" }, make("i", { class: "dot" }), make("bdi", {}, nameOf(nodes[nodeOf[of[point]]]))),
      make("p", { class: "tip-path" }, make("bdi", {}, path)));
    if (shown >= 0 && shown !== point) tip.append(make("p", { class: "tip-note" }, "Shown: a close neighbour in the same cluster"));
    const left = sx + 18 + tip.offsetWidth > width ? sx - 18 - tip.offsetWidth : sx + 18;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(sy - 20, height - tip.offsetHeight - 8))}px`;
  }

  function zoomAt(factor, sx = width / 2, sy = height / 2) {
    const [x, y] = toPlane(sx, sy);
    view.zoom = Math.max(1, Math.min(60, view.zoom * factor));
    const [left, up] = toPlane(sx, sy);
    move(x - left, y - up);
  }

  function move(dx, dy) {
    const inside = (v) => Math.max(0, Math.min(EXTENT, v));
    view.x = inside(view.x + dx);
    view.y = inside(view.y + dy);
    showTip(-1);
    redraw();
  }

  function showAll() {
    view = { zoom: 1, x: EXTENT / 2, y: EXTENT / 2 };
    centre();
    redraw();
  }

  // Positions keep their proportions, so the shorter axis does not fill its range.
  function centre() {
    view.x = xs.reduce((a, b) => Math.max(a, b), 0) / 2;
    view.y = ys.reduce((a, b) => Math.max(a, b), 0) / 2;
  }

  const pointers = new Map();
  let travelled = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) { showTip(nearest(x, y), x, y); return; }
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    pointers.set(event.pointerId, [x, y]);
    travelled += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    if (others.length) {
      const [ox, oy] = others[0];
      zoomAt(Math.hypot(x - ox, y - oy) / Math.max(1, Math.hypot(before[0] - ox, before[1] - oy)), ox, oy);
    } else if (travelled > 4) move((before[0] - x) / scale(), (y - before[1]) / scale());
  });
  canvas.addEventListener("pointerup", (event) => {
    const tapped = pointers.delete(event.pointerId) && travelled <= 4;
    if (!tapped) return;
    const point = nearest(...at(event));
    // A finger cannot hover: the first tap shows the picture, the second opens the cluster.
    if (point >= 0 && (event.pointerType === "mouse" || point === hovered)) openMembers(nodeOf[of[point]], canvas);
    else showTip(point, ...at(event));
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => showTip(-1));
  canvas.addEventListener("wheel", (event) => {
    // A plain wheel keeps scrolling the page until the map has been clicked.
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 / scale();
    const actions = {
      ArrowLeft: () => move(-step, 0), ArrowRight: () => move(step, 0), ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
      "+": () => zoomAt(1.4), "=": () => zoomAt(1.4), "-": () => zoomAt(1 / 1.4), 0: showAll,
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
  byId("zoom-in").addEventListener("click", () => zoomAt(1.6));
  byId("zoom-out").addEventListener("click", () => zoomAt(1 / 1.6));
  byId("zoom-all").addEventListener("click", showAll);

  function legendEntry(node) {
    const name = nameOf(nodes[node]);
    const button = make("button", { type: "button", "aria-pressed": "false", onclick: () => {
      if (!marked.delete(node)) marked.add(node);
      button.setAttribute("aria-pressed", String(marked.has(node)));
      redraw();
    } }, make("i", { class: "dot", "aria-hidden": "true" }), make("bdi", { title: name }, name),
    make("span", { class: "size" }, count(nodes[node].size)));
    return make("li", {}, button);
  }

  function paint() {
    const entries = [...byId("legend").children];
    shownNodes.forEach((node, i) => entries[i].style.setProperty("--colour", colourOf(node)));
    draw();
  }

  function regrouped() {
    marked.clear();
    showTip(-1);
    byId("legend").replaceChildren(...shownNodes.map(legendEntry));
    paint();
  }

  document.addEventListener("themechange", paint);
  document.addEventListener("regroup", regrouped);
  new ResizeObserver(resize).observe(canvas);
  centre();
  resize();
  regrouped();
}
