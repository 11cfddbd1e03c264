// Draws the points as squares into a picture of its own, for browsers without WebGL2. The same
// calls as painter-gl.js.
export const MOST = 200000;

export function plainPainter(canvas) {
  const context = canvas.getContext("2d", { alpha: false });
  const kept = { places: null, codes: null, palette: null, chosen: new Uint32Array(0) };
  let image = null;
  let pixels = null;
  let depths = null;
  let colours = null;

  const packed = (r, g, b) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;

  function set(name, value) {
    kept[name] = value;
    if (name !== "palette") return;
    const { rgba } = value;
    colours = Uint32Array.from({ length: rgba.length / 4 }, (_, c) => packed(rgba[4 * c], rgba[4 * c + 1], rgba[4 * c + 2]));
  }

  function clear() {
    const { width, height } = canvas;
    if (!image || image.width !== width || image.height !== height) {
      image = context.createImageData(width, height);
      pixels = new Uint32Array(image.data.buffer);
      depths = new Uint8Array(width * height);
    }
    pixels.fill(packed(...kept.palette.ground.map((part) => Math.round(part * 255))));
    depths.fill(0);
  }

  function square(i, view, ratio, side, colour, depth) {
    const { width, height } = canvas;
    const x = Math.round(((kept.places[2 * i] - view.x) * view.scale + view.width / 2) * ratio - side / 2);
    const y = Math.round(((view.y - kept.places[2 * i + 1]) * view.scale + view.height / 2) * ratio - side / 2);
    const [right, bottom] = [Math.min(x + side, width), Math.min(y + side, height)];
    for (let row = Math.max(y, 0); row < bottom; row += 1) {
      for (let at = row * width + Math.max(x, 0), end = row * width + right; at < end; at += 1) {
        if (depths[at] > depth) continue;
        pixels[at] = colour;
        depths[at] = depth;
      }
    }
  }

  function paint(view, size, ratio, from, to, marked) {
    if (!kept.codes || !kept.palette) return;
    if (from === 0) clear();
    const { rgba, ink } = kept.palette;
    const side = Math.max(1, Math.round(size * ratio));
    for (let i = from; i < to; i += 1) {
      const code = kept.codes[i];
      square(i, view, ratio, side, colours[code], rgba[4 * code + 3] >> 2);
    }
    const dark = packed(...ink.map((part) => Math.round(part * 255)));
    for (const i of kept.chosen.subarray(0, marked)) {
      square(i, view, ratio, side + 4, dark, 255);
      square(i, view, ratio, side, colours[kept.codes[i]], 255);
    }
    context.putImageData(image, 0, 0);
  }
  return { set, paint, done: () => true, end: () => {} };
}
