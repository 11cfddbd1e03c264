// What colours the points: each has a code, and each code a colour, a shape and a depth.
const WIDE = 256;
const ROUND = 64;
const SHADES = 256;
const DIM = 0.13;
// From sure to doubtful, in steps of lightness that every eye can tell, and away from the ground:
// what is looked for stands out.
const DOUBT = {
  light: ["#cfd6de", "#9fb4c9", "#7d88b8", "#8a4f94", "#7a1f4f", "#3d0b1c"],
  dark: ["#3a4049", "#4c6280", "#7d74b5", "#c377ae", "#f29c8b", "#ffe6a8"],
};

export const isDark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark");

// Any colour that CSS knows, as three numbers from 0 to 255.
export function rgb(colour) {
  const context = rgb.context ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.subarray(0, 3)];
}
const mixed = (a, b, share) => a.map((part, k) => Math.round(part + (b[k] - part) * share));

// Clusters, "fits nowhere" last: the order of the codes, and the code of each point.
export function codesOfUids(uids, clusters) {
  const most = clusters.reduce((top, { uid }) => Math.max(top, uid), 0);
  const place = new Uint16Array(most + 2).fill(clusters.length);
  clusters.forEach(({ uid }, code) => { place[uid] = code; });
  return Uint16Array.from(uids, (uid) => (uid < 0 || uid > most ? clusters.length : place[uid]));
}

export function codesOfLabels(labels, n) {
  return Uint16Array.from(labels, (label) => (label < 0 ? n : label));
}

// Between the values that all but a hundredth at either end have, so that a few do not set the scale.
export function codesOfConfidence(values) {
  const sample = values.slice(0, 20000).sort();
  const at = (share) => sample[Math.min(sample.length - 1, Math.floor(share * sample.length))] ?? 0;
  const [low, high] = [at(0.01), Math.max(at(0.99), at(0.01) + 1e-6)];
  const code = (value) => Math.max(0, Math.min(1, (value - low) / (high - low))) * (SHADES - 1);
  return { codes: Uint16Array.from(values, (value) => SHADES - 1 - Math.round(code(value))), low, high };
}

export function doubtRamp() {
  const steps = DOUBT[isDark() ? "dark" : "light"];
  const stops = steps.map(rgb);
  const colours = Array.from({ length: SHADES }, (_, code) => {
    const at = (code / (SHADES - 1)) * (stops.length - 1);
    const k = Math.min(Math.floor(at), stops.length - 2);
    return mixed(stops[k], stops[k + 1], at - k);
  });
  return { colours, steps };
}

// groups: {colour, colour_dark, turn} by code; `turn` counts how often the colours have gone round.
export function groupColours(groups) {
  const key = isDark() ? "colour_dark" : "colour";
  return groups.map((group) => rgb(group[key] ?? group.colour));
}

// A palette for the painters. marked: set of codes that are highlighted, or empty; layered: later
// codes lie above earlier ones, as the doubtful do above the sure.
export function palette(colours, { shapes = null, marked = new Set(), layered = false } = {}) {
  const style = getComputedStyle(document.documentElement);
  const ground = rgb(style.getPropertyValue("--card"));
  const ink = rgb(style.getPropertyValue("--ink"));
  const n = Math.max(colours.length, 1);
  const rgba = new Uint8Array(4 * WIDE * Math.ceil(n / WIDE));
  colours.forEach((colour, code) => {
    const isDim = marked.size > 0 && !marked.has(code);
    const depth = isDim ? 0 : layered ? 1 + Math.floor((30 * code) / n) : 31;
    rgba.set([...(isDim ? mixed(ground, colour, DIM) : colour), (depth << 2) | (shapes ? shapes[code] : 0)], 4 * code);
  });
  const part = (value) => value / 255;
  return { rgba, ground: ground.map(part), ink: ink.map(part), layered: layered || marked.size > 0 };
}

export const shapeOf = (uid) => Math.floor(Math.max(uid - 1, 0) / ROUND) % 4;
