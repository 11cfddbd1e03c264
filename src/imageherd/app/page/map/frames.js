// How many points a frame draws. Points come in random order, so that the first of them are a fair
// sample: while the map moves only so many are drawn as leave it 25 frames a second, or as cost
// little where it has not so many anyway; when it rests the others follow, some a frame, until all
// are there. One frame is under way at a time, so that input never waits for more than one.
const MOVING_MS = 36;
const LEAST_MS = 4;
const RESTING_MS = 110;
const AT_REST_AFTER = 80;
const FEWEST = 10_000;
const FORGET = 0.85;
const GROW = 2;
// From here on what lies over the points is left out while they move, as it costs a frame too.
const SLOW_MS = 40;
// A gap this long is a tab in the background or a machine asleep, not points.
const NO_FRAME_MS = 1000;

// What a point costs, in ms: the slope of the line through the last frames' (points, ms). A frame
// has costs of its own, which drawing fewer points does not lower.
export function costs(perPoint) {
  let [n, x, y, xx, xy] = [0, 0, 0, 0, 0];
  return {
    learn(points, ms) {
      [n, x, y, xx, xy] = [[n, 1], [x, points], [y, ms], [xx, points * points], [xy, points * ms]]
        .map(([sum, more]) => sum * FORGET + more);
      const spread = xx / n - (x / n) ** 2;
      // Frames of one size tell nothing of the slope: then more is tried.
      if (spread < (0.05 * x / n) ** 2) perPoint /= 1.2;
      else perPoint = Math.max((xy / n - (x / n) * (y / n)) / spread, perPoint / GROW, 1e-7);
    },
    pointsFor: (ms) => Math.max(FEWEST, Math.round(ms / perPoint)),
    // What a frame costs that draws none.
    empty: () => (n ? Math.max(0, (y - x * perPoint) / n) : 0),
  };
}

// painter: paint(from, to) draws points, clearing first where from is 0; done() says whether what
// was painted last is finished. full() is told when all points are there.
export function frames(painter, full) {
  // What software rendering takes, to begin with.
  const cost = costs(1 / 1500);
  let total = 0;
  let drawn = 0;
  let stale = true;
  let changed = -Infinity;
  let began = 0;
  let pending = 0;
  let asked = 0;
  let usual = 0;
  let isSlow = false;
  let isMoving = true;

  function learn(points, ms) {
    if (ms >= NO_FRAME_MS) return;
    cost.learn(points, ms);
    if (isMoving) usual += 0.25 * (ms - usual);
    isSlow ||= usual > SLOW_MS;
  }

  function frame() {
    asked = 0;
    if (!total) return;
    const now = performance.now();
    if (pending && !painter.done()) return ask();
    if (pending) learn(pending, now - began);
    pending = 0;
    if (!stale && drawn >= total) return full();
    const from = stale ? 0 : drawn;
    isMoving = now - changed <= AT_REST_AFTER;
    const budget = isMoving ? Math.max(LEAST_MS, MOVING_MS - cost.empty()) : RESTING_MS;
    drawn = Math.min(total, from + cost.pointsFor(budget));
    stale = false;
    [began, pending] = [now, drawn - from];
    painter.paint(from, drawn);
    ask();
  }
  function ask() {
    if (!asked) asked = requestAnimationFrame(frame);
  }
  return {
    // The view, the colours or the points have changed.
    redraw() {
      stale = true;
      changed = performance.now();
      ask();
    },
    // Once found to be so, it stays: what is left out then is what it was slow with.
    isSlow: () => isSlow,
    setTotal(n) {
      total = n;
    },
    stop() {
      cancelAnimationFrame(asked);
      total = 0;
    },
  };
}
