// Mouse, touch and keyboard on the map, told as what a person wants.
//
// on: pan(dx, dy), zoom(factor, x, y), all(), hover(x, y) or hover(null), tap(x, y, event),
//     outline(points) while it is drawn, close(points, event) when it is done, cancel(),
//     cursor(isThere), pick() at the cursor, isLasso(): whether a drag draws.
import { box } from "./lasso.js";

const STEP = 70;
const STILL = 5;

export function listen(area, on) {
  const pointers = new Map();
  let drawing = null;
  let travelled = 0;
  const at = (event) => {
    const around = area.getBoundingClientRect();
    return [event.clientX - around.left, event.clientY - around.top];
  };

  function down(event) {
    if (event.button !== 0) return;
    area.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    travelled = 0;
    on.cursor(false);
    drawing = pointers.size === 1 && (event.shiftKey || on.isLasso()) ? [at(event)] : null;
    if (!drawing) on.outline(null);
  }
  function move(event) {
    const [x, y] = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) return on.hover(x, y);
    travelled += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    pointers.set(event.pointerId, [x, y]);
    if (drawing) {
      drawing.push([x, y]);
      return on.outline(drawing);
    }
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const spread = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
      on.zoom(spread([x, y]) / spread(before), (x + other[0]) / 2, (y + other[1]) / 2);
      return on.pan((x - before[0]) / 2, (y - before[1]) / 2);
    }
    if (travelled > STILL) on.pan(x - before[0], y - before[1]);
  }
  function up(event) {
    if (!pointers.delete(event.pointerId)) return;
    const outline = drawing;
    drawing = null;
    if (travelled <= STILL) {
      on.outline(null);
      return on.tap(...at(event), event);
    }
    if (outline) on.close(outline, event);
  }
  function lost(event) {
    pointers.delete(event.pointerId);
    if (drawing) on.cancel();
    drawing = null;
  }
  function wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    on.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), ...at(event));
  }

  // Half of the box's sides, while there is one around the cursor.
  let half = null;
  const outlined = () => {
    const [x, y] = [area.clientWidth / 2, area.clientHeight / 2];
    return box(x - half[0], y - half[1], x + half[0], y + half[1]);
  };
  function resized(dx, dy) {
    half ??= [60, 60];
    half = [half[0] + dx, half[1] + dy].map((side, k) => Math.max(10, Math.min(side, [area.clientWidth, area.clientHeight][k] / 2)));
    on.outline(outlined());
  }
  function dropped() {
    half = null;
    on.cancel();
  }
  const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = arrows[event.key];
    const keys = {
      "+": () => on.zoom(1.5), "=": () => on.zoom(1.5), "-": () => on.zoom(1 / 1.5), 0: on.all,
      b: () => (half ? dropped() : resized(0, 0)),
      x: on.pick,
      Enter: () => (half ? (on.close(outlined(), event), dropped()) : on.pick()),
    };
    const wanted = arrow
      ? () => (event.shiftKey ? resized(-20 * arrow[0], -20 * arrow[1]) : on.pan(STEP * arrow[0], STEP * arrow[1]))
      : event.key === "Escape" ? half && dropped : keys[event.key];
    if (!wanted) return;
    event.preventDefault();
    event.stopPropagation();
    on.cursor(true);
    wanted();
  }

  const events = {
    pointerdown: down, pointermove: move, pointerup: up, pointercancel: lost,
    pointerleave: () => on.hover(null), wheel, keydown: key,
    blur: () => { dropped(); on.cursor(false); },
    focus: () => { if (area.matches(":focus-visible")) on.cursor(true); },
  };
  for (const [name, react] of Object.entries(events)) area.addEventListener(name, react, { passive: false });
}
