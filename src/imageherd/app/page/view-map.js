// The map: every image a point, like beside like; colours, names, highlighting, selecting.

import { count, heading, make, message, NOWHERE, nameOf } from "./dom.js";
import { colouring } from "./map/colouring.js";
import { controls } from "./map/controls.js";
import { frames } from "./map/frames.js";
import { grid } from "./map/grid.js";
import { listen } from "./map/input.js";
import { inside } from "./map/lasso.js";
import { middles, overlay } from "./map/overlay.js";
import { glPainter } from "./map/painter-gl.js";
import { MOST, plainPainter } from "./map/painter-plain.js";
import { plane, radius } from "./map/plane.js";
import { tip } from "./map/tip.js";

const ASK_AGAIN = 1500;
const GIVEN_BACK_WITHIN = 3000;
const MARKED_WHILE_MOVING = 5000;

export async function show(root, context) {
  let stop = () => {};
  let isOver = false;
  async function start(options = {}) {
    stop();
    root.replaceChildren(make("div", { class: "view-head" }, heading("Map")));
    const about = await ready(root, context);
    if (isOver || !about) return;
    if (!about.n) root.append(message("There is nothing on the map: no image of this clustering has features any more."));
    else stop = await draw(root, context, about, { ...options, restart: (more) => start({ ...options, ...more }) });
  }
  const begun = start();
  begun.catch((error) => { if (error.name !== "AbortError") context.notices.problem(error); });
  return () => { isOver = true; stop(); };
}

// Waits until the map is there, and says how long that takes.
async function ready(root, { store, api, signal }) {
  const said = message("");
  const bar = make("progress", { max: 1, "aria-label": "Computing the map" });
  while (!signal.aborted) {
    const about = await api.get(api.of(store.name, "map"), { signal });
    if (about.status === "ready") {
      said.remove();
      bar.remove();
      return about;
    }
    const left = Math.round(about.expected - about.seconds);
    said.textContent = `The map of ${store.things(about.n)} is being computed, once: ${left > 0 ? `about ${left} s more` : "it takes longer than expected"}. You can use the other views meanwhile.`;
    bar.value = Math.min(0.98, about.seconds / about.expected);
    if (!said.isConnected) root.append(said, bar);
    await new Promise((resolve) => { setTimeout(resolve, ASK_AGAIN); });
  }
  return null;
}

async function draw(root, context, about, { plain = false, restart }) {
  const { store, api, select, go, to, signal } = context;
  const fetched = (what) => api.binary(api.of(store.name, "map", what), { signal });
  const version = store.about.version;
  const rowsComing = fetched("rows");
  const [places, uids] = await Promise.all([fetched("points"), fetched("uids")]);

  const canvas = make("canvas", { class: "map-points" });
  const names = make("canvas", { class: "map-names" });
  const over = make("div", { class: "map-over", tabindex: 0, role: "application", "aria-label": `Map of ${store.things(about.n)}`, "aria-describedby": "map-help" }, canvas, names);
  const tipPlace = make("div", { class: "map-tip", role: "status", hidden: true });
  const area = make("div", { class: "map-plane" }, over, tipPlace);
  const legendPlace = make("aside", { class: "map-legend", "aria-label": "What the colours mean" });
  const painter = (plain ? null : glPainter(canvas)) ?? plainPainter(canvas);
  const isPlain = !canvas.getContext("webgl2");
  const n = isPlain ? Math.min(about.n, MOST) : about.n;
  const points = { places: new Float32Array(places).subarray(0, 2 * n), uids: new Int32Array(uids).subarray(0, n), rows: null };
  const flat = plane(about.bounds);
  const above = overlay(names, flat);
  const pointed = tip(tipPlace, { store, api, plane: flat });
  let nearest = null;
  let indexOf = null;
  let marked = 0;
  let ratio = 1;
  let isLasso = false;

  const size = () => 2 * radius(n, flat.view);
  const looking = () => ({ x: flat.view.x, y: flat.view.y, scale: flat.scale(), width: flat.view.width, height: flat.view.height });
  const loop = frames({
    paint: (from, upTo) => painter.paint(looking(), size(), ratio, from, upTo, upTo < n ? Math.min(marked, MARKED_WHILE_MOVING) : marked),
    done: painter.done,
  }, rested);
  painter.set("places", points.places);
  loop.setTotal(n);

  const colours = colouring({ ...context, points, painter, legendPlace, redraw: () => loop.redraw(), named: showNames });
  const bar = controls({
    colours, problem: context.notices.problem, zoom: (factor) => { flat.zoomBy(factor); moved(); }, all: showAll,
    lasso: (wanted) => { isLasso = wanted; over.classList.toggle("draws", wanted); },
    selectMarked: () => rows().then((known) => select.add(colours.markedPoints().map((i) => known[i]))),
  });
  root.querySelector(".view-head").append(bar.element);
  area.append(bar.zoomers);
  root.append(make("div", { class: "map" }, area, legendPlace), bar.help);
  if (isPlain) root.append(make("p", { class: "map-note", role: "note" }, `WebGL2 is not to be had here, so the map is drawn more simply${n < about.n ? `, and only ${count(n)} of the ${store.things(about.n)} are on it` : ""}.`));

  function rested() {
    names.hidden = false;
    above.show({});
    over.dataset.drawn = n;
    if (nearest) return;
    nearest = grid(points.places);
    api.get(api.of(store.name, "map", "labels"), { signal }).then(({ kinds }) => bar.offer(kinds)).catch(context.notices.problem);
  }
  async function rows() {
    points.rows ??= new Int32Array(await rowsComing).subarray(0, n);
    return points.rows;
  }
  function moved() {
    delete over.dataset.drawn;
    pointed.hide();
    names.hidden = loop.isSlow();
    above.show({ hover: null });
    loop.redraw();
  }
  function showAll() {
    flat.showAll();
    moved();
  }
  function showNames(codes, groups) {
    const centres = groups ? middles(points.places, codes, groups.length) : [];
    const names = centres.flatMap((at, code) => (at && colours.isMarked(code) ? [{ at, name: groups[code].name, size: groups[code].size, isNamed: groups[code].uid !== NOWHERE }] : []));
    above.show({ names: names.filter(({ isNamed }) => isNamed).sort((a, b) => b.size - a.size) });
  }
  function resize() {
    const { clientWidth: width, clientHeight: height } = area;
    if (!width || !height) return;
    ratio = Math.min(devicePixelRatio || 1, 2);
    for (const one of [canvas, names]) Object.assign(one, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    flat.resize(width, height);
    moved();
  }
  function under(sx, sy) {
    if (!nearest) return -1;
    const [x, y] = flat.toMap(sx, sy);
    return nearest(x, y, (size() / 2 + 7) / flat.scale(), (i) => colours.isMarkedPoint(i));
  }
  async function hover(sx, sy) {
    const i = sx === null ? -1 : under(sx, sy);
    over.classList.toggle("points", i >= 0);
    if (i < 0) {
      pointed.hide();
      return above.show({ hover: null });
    }
    above.show({ hover: { x: points.places[2 * i], y: points.places[2 * i + 1], radius: size() / 2 } });
    const cluster = store.cluster(points.uids[i]) ?? store.nowhere;
    return pointed.show((await rows())[i], cluster, sx, sy);
  }
  const middle = () => [flat.view.width / 2, flat.view.height / 2];
  async function toggle(sx, sy) {
    const i = under(sx, sy);
    if (i >= 0) select.toggle((await rows())[i]);
  }
  let tapped = -1;
  listen(over, {
    pan: (dx, dy) => { flat.moveBy(dx, dy); moved(); },
    zoom: (factor, sx, sy) => { flat.zoomBy(factor, sx, sy); moved(); },
    all: showAll,
    hover,
    // A finger cannot hover: the first tap shows the picture, the second selects it.
    tap: (sx, sy, event) => {
      const again = under(sx, sy) === tapped;
      tapped = under(sx, sy);
      if (event.pointerType === "touch" && !again) hover(sx, sy);
      else toggle(sx, sy);
    },
    outline: (outline) => { names.hidden = false; above.show({ outline }); },
    cancel: () => above.show({ outline: null }),
    close: async (outline) => {
      const found = inside(outline, points.places, flat, (i) => colours.isMarkedPoint(i));
      above.show({ outline: null });
      const known = await rows();
      if (found.length) select.add(Array.from(found, (i) => known[i]));
    },
    cursor: (isThere) => { above.show({ cursor: isThere }); if (isThere) setTimeout(() => hover(...middle()), 0); },
    pick: () => toggle(...middle()),
    isLasso: () => isLasso,
  });
  over.addEventListener("dblclick", (event) => {
    const i = under(event.offsetX, event.offsetY);
    if (i >= 0) go(to("cluster", { uid: points.uids[i] }));
  });

  async function showSelected() {
    const known = await rows();
    if (!indexOf) {
      indexOf = new Int32Array(known.reduce((top, row) => Math.max(top, row), 0) + 1).fill(-1);
      known.forEach((row, i) => { indexOf[row] = i; });
    }
    const chosen = Uint32Array.from(select.rows().map((row) => indexOf[row] ?? -1).filter((i) => i >= 0));
    marked = chosen.length;
    painter.set("chosen", chosen);
    loop.redraw();
  }
  let asked = 0;
  async function edited() {
    if (store.about.version !== version) return restart();
    const mine = ++asked;
    const now = await fetched("uids");
    if (mine !== asked) return null;
    points.uids.set(new Int32Array(now).subarray(0, n));
    return colours.edited();
  }
  const told = (work) => (...given) => work(...given)?.catch?.((error) => context.notices.problem(error));
  const offs = [store.subscribe(told(edited)), select.subscribe(told(showSelected))];
  const ended = new AbortController();
  const on = (target, event, react) => target.addEventListener(event, react, { signal: ended.signal });
  let givenUp = 0;
  on(document, "themechange", () => { colours.repaint(); moved(); });
  on(canvas, "webglcontextlost", () => { givenUp = setTimeout(() => restart({ plain: true }), GIVEN_BACK_WITHIN); });
  on(canvas, "repaint", () => { clearTimeout(givenUp); moved(); });
  const watch = new ResizeObserver(resize);
  watch.observe(area);
  resize();
  await colours.by("cluster");
  context.actions.home(over);

  return () => {
    offs.forEach((off) => off());
    ended.abort();
    clearTimeout(givenUp);
    watch.disconnect();
    loop.stop();
    above.stop();
    pointed.hide();
    painter.end();
  };
}
