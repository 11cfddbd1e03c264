// By what the points are coloured, which of it is highlighted, and the legend that says so.
import { NOWHERE, nameOf } from "../dom.js";
import { codesOfConfidence, codesOfLabels, codesOfUids, doubtRamp, groupColours, palette, shapeOf } from "./colours.js";
import { legend, scaleLegend } from "./legend.js";

const AFTER_THE_POINTS = 30;
const GREY = { colour: "#8b8d92", colour_dark: "#7b7f87" };

export function colouring({ store, api, signal, points, painter, legendPlace, redraw, named }) {
  const marked = new Set();
  let what = "cluster";
  let groups = [];
  let codes = new Uint16Array(0);
  let range = null;
  let explaining = 0;
  // Who chooses twice gets what was chosen last, whichever comes first.
  let turn = 0;

  const binary = (...parts) => api.binary(api.of(store.name, "map", ...parts), { signal });

  function byCluster() {
    const clusters = [...store.clusters, { ...GREY, ...store.nowhere, uid: NOWHERE }];
    groups = clusters.map((cluster) => ({ ...GREY, ...cluster, name: nameOf(cluster) }));
    codes = codesOfUids(points.uids, store.clusters);
  }
  async function byConfidence(mine) {
    const values = new Float32Array(await binary("confidence")).subarray(0, points.uids.length);
    if (mine !== turn) return;
    groups = null;
    ({ codes, ...range } = codesOfConfidence(values));
  }
  async function byLabel(of, mine) {
    const asked = `?of=${encodeURIComponent(of)}`;
    const answer = await api.get(`${api.of(store.name, "map", "labels")}${asked}`, { signal });
    const found = new Int32Array(await api.binary(`${api.of(store.name, "map", "labels", "codes")}${asked}`, { signal }));
    if (mine !== turn) return;
    groups = answer.names.map((label, i) => ({ ...label, uid: i + 1 }));
    const none = found.reduce((n, label) => n + (label < 0), 0);
    groups.push({ ...GREY, name: "without", size: none, uid: NOWHERE });
    codes = codesOfLabels(found.subarray(0, points.uids.length), answer.names.length);
  }

  function repaint() {
    const isDoubt = groups === null;
    const { colours, steps } = isDoubt ? doubtRamp() : { colours: groupColours(groups) };
    const shapes = isDoubt ? null : groups.map(({ uid }) => shapeOf(uid));
    painter.set("palette", palette(colours, { shapes, marked, layered: isDoubt }));
    if (isDoubt) scaleLegend(legendPlace, { steps, ...range });
  }
  // The points first: names and legend of a thousand clusters take a moment.
  function applied() {
    painter.set("codes", codes);
    repaint();
    redraw();
    clearTimeout(explaining);
    explaining = setTimeout(explain, AFTER_THE_POINTS);
  }
  function explain() {
    named(codes, groups);
    if (groups) {
      const title = what === "cluster" ? "Clusters" : what.slice(1);
      legend(legendPlace, { title, groups, marked, changed: () => { repaint(); named(codes, groups); redraw(); changed(); } });
    }
    changed();
  }
  let changed = () => {};

  return {
    // what: "cluster", "confidence", or "=NAME" for labels.
    async by(wanted) {
      const mine = ++turn;
      what = wanted;
      marked.clear();
      if (what === "cluster") byCluster();
      else if (what === "confidence") await byConfidence(mine);
      else await byLabel(what.slice(1), mine);
      if (mine === turn) applied();
    },
    // After an edit: the colours anew, what is highlighted stays so by its uid. Labels stay.
    async edited() {
      if (what !== "cluster" && what !== "confidence") return;
      const mine = ++turn;
      if (what === "confidence") await byConfidence(mine);
      else {
        const kept = new Set([...marked].map((code) => groups[code].uid));
        byCluster();
        marked.clear();
        groups.forEach(({ uid }, code) => { if (kept.has(uid)) marked.add(code); });
      }
      if (mine === turn) applied();
    },
    repaint,
    isMarked: (code) => marked.size === 0 || marked.has(code),
    isMarkedPoint: (i) => marked.size === 0 || marked.has(codes[i]),
    markedPoints: () => {
      const found = [];
      for (let i = 0; i < codes.length; i += 1) if (marked.has(codes[i])) found.push(i);
      return found;
    },
    markedSize: () => [...marked].reduce((n, code) => n + groups[code].size, 0),
    onChange(listener) { changed = listener; },
  };
}
