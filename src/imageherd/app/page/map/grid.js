// Which point lies where: the plane in squares, so that pointing looks at a few points, not at all.
const SIDE = 256;

export function grid(places) {
  const n = places.length / 2;
  const square = (v) => Math.max(0, Math.min(SIDE - 1, Math.floor((v + 1) * (SIDE / 2))));
  const of = new Uint16Array(n);
  const starts = new Uint32Array(SIDE * SIDE + 1);
  for (let i = 0; i < n; i += 1) {
    of[i] = square(places[2 * i + 1]) * SIDE + square(places[2 * i]);
    starts[of[i] + 1] += 1;
  }
  for (let s = 0; s < SIDE * SIDE; s += 1) starts[s + 1] += starts[s];
  const next = starts.slice(0, -1);
  const points = new Uint32Array(n);
  for (let i = 0; i < n; i += 1) points[next[of[i]]++] = i;

  // The nearest point within reach of a place that is wanted, or -1.
  return function nearest(x, y, reach, isWanted) {
    let best = -1;
    let least = reach * reach;
    for (let row = square(y - reach); row <= square(y + reach); row += 1) {
      const first = starts[row * SIDE + square(x - reach)];
      const end = starts[row * SIDE + square(x + reach) + 1];
      for (let at = first; at < end; at += 1) {
        const i = points[at];
        const distance = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
        // Of points at one place the last lies on top.
        if (distance > least || (distance === least && i < best) || !isWanted(i)) continue;
        [best, least] = [i, distance];
      }
    }
    return best;
  };
}
