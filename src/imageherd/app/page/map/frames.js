// How many points a frame draws. Points come in random order, so that the first of them are a fair
// sample: while the map moves only so many are drawn as leave it 30 frames a second; when it rests
// the others follow, some a frame, until all are there. One frame is under way at a time, so that
// input never waits for more than one.
const MOVING_MS = 28;
const RESTING_MS = 70;
const AT_REST_AFTER = 120;
const FEWEST = 2000;

// painter: paint(from, to) draws points, clearing first where from is 0; done() says whether what
// was painted last is finished. full() is told when all points are there.
export function frames(painter, full) {
  let total = 0;
  let drawn = 0;
  let stale = true;
  let changed = -Infinity;
  let began = 0;
  let pending = 0;
  let asked = 0;
  // Points a millisecond; what software rendering manages, to begin with.
  let rate = 1500;

  function learn(now) {
    const took = Math.max(now - began, 1);
    // A short frame tells of the screen's clock, not of the points.
    if (pending > FEWEST && (took > 8 || pending > rate * 8)) rate += 0.3 * (pending / took - rate);
    pending = 0;
  }

  function frame() {
    asked = 0;
    if (!total) return;
    const now = performance.now();
    if (pending && !painter.done()) return ask();
    if (pending) learn(now);
    if (!stale && drawn >= total) return full();
    const budget = now - changed > AT_REST_AFTER ? RESTING_MS : MOVING_MS;
    const from = stale ? 0 : drawn;
    drawn = Math.min(total, from + Math.max(FEWEST, Math.round(rate * budget)));
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
    setTotal(n) {
      total = n;
    },
    stop() {
      cancelAnimationFrame(asked);
      total = 0;
    },
    told: () => ({ drawn, total, rate }),
  };
}
