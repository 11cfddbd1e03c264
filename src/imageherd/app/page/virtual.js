// A grid of any number of tiles, of which only those near the window exist.
//
//   const grid = virtualGrid(holder, {minWidth(), gap(), height(width), make(i), key(i), number(element, i),
//                                     release(element), settled(from, to)})
//   grid.show(n)          how many there are now. A tile whose key(i) was on the page before is kept, given
//                         its new number(element, i), and neither flickers nor loses the focus
//   grid.redo(i)          makes tile i afresh, if it is there
//   grid.element(i)       the tile, or undefined; grid.reveal(i) scrolls until it is in sight, and gives it
//   grid.columns          now; grid.pin(i): this tile stays, however far away (it has the focus)
//   grid.stop()
//
// The window scrolls, not the holder. Browsers give up near 17 million pixels of height: beyond
// TALLEST the holder stays that tall and each pixel of the scroll bar stands for several.

const TALLEST = 12_000_000;
const AHEAD = 700;
const REST = 90;
const [ABOVE, BELOW] = [110, 120];

export function virtualGrid(holder, { minWidth, gap, height, make, key = () => null, number = () => {}, release = () => {}, settled = () => {} }) {
  const tiles = new Map();
  const keys = new WeakMap();
  let spare = new Map();
  let n = 0;
  let columns = 1;
  let between = 0;
  let width = 1;
  let rowHeight = 1;
  let pinned = null;
  let frame = 0;
  let rest = 0;

  const total = () => Math.ceil(n / columns) * rowHeight;
  const stretch = () => (total() > TALLEST ? (total() - innerHeight) / (TALLEST - innerHeight) : 1);
  const scrolledBy = () => Math.max(0, -holder.getBoundingClientRect().top);

  function measure() {
    const room = holder.clientWidth;
    between = gap();
    columns = Math.max(1, Math.floor((room + between) / (minWidth() + between)));
    width = Math.max(1, (room - between * (columns - 1)) / columns);
    rowHeight = Math.round(height(width)) + between;
    holder.style.height = `${Math.min(total(), TALLEST)}px`;
  }

  function span() {
    const top = scrolledBy() * stretch();
    const first = Math.max(0, Math.floor((top - AHEAD) / rowHeight)) * columns;
    const last = Math.min(n, Math.ceil((top + innerHeight + AHEAD) / rowHeight) * columns);
    return [Math.min(first, Math.max(0, last - 1)), last];
  }

  function place(element, i) {
    const by = scrolledBy();
    const shift = by - by * stretch();
    element.style.transform = `translate(${(i % columns) * (width + between)}px, ${Math.floor(i / columns) * rowHeight + shift}px)`;
    element.style.width = `${width}px`;
    element.style.height = `${rowHeight - between}px`;
  }

  function discard(element) {
    element.remove();
    release(element);
  }

  function drop(i) {
    discard(tiles.get(i));
    tiles.delete(i);
  }

  function obtain(i) {
    const wanted = key(i);
    const kept = wanted === null ? undefined : spare.get(wanted);
    const element = kept ?? make(i);
    if (kept) {
      spare.delete(wanted);
      number(element, i);
    }
    keys.set(element, wanted);
    return element;
  }

  // The order of the elements is the order in which a screen reader meets them.
  function put(i) {
    const element = obtain(i);
    element.classList.add("placed");
    tiles.set(i, element);
    place(element, i);
    let after = Infinity;
    for (const other of tiles.keys()) if (other > i && other < after) after = other;
    const next = tiles.get(after) ?? null;
    if (!element.isConnected || element.nextSibling !== next) holder.insertBefore(element, next);
    return element;
  }

  function render() {
    frame = 0;
    if (!holder.isConnected) return;
    const [first, last] = span();
    for (const i of [...tiles.keys()]) if ((i < first || i >= last) && (i !== pinned || i >= n)) drop(i);
    for (let i = first; i < last; i += 1) if (!tiles.has(i)) put(i);
    if (stretch() > 1) for (const [i, element] of tiles) place(element, i);
    clearTimeout(rest);
    rest = setTimeout(() => settled(...span()), REST);
  }

  const soon = () => { frame ||= requestAnimationFrame(render); };

  function show(now) {
    const focused = holder.contains(document.activeElement) ? document.activeElement : null;
    n = now;
    measure();
    const [first, last] = span();
    const wanted = new Set();
    for (let i = first; i < last; i += 1) wanted.add(key(i));
    spare = new Map();
    for (const element of tiles.values()) {
      const its = keys.get(element);
      if (its !== null && wanted.has(its)) spare.set(its, element);
      else discard(element);
    }
    tiles.clear();
    render();
    for (const element of spare.values()) discard(element);
    spare = new Map();
    // Moving an element takes the focus from it.
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  const watch = new ResizeObserver(() => {
    const before = [columns, width];
    measure();
    if (before[0] !== columns || before[1] !== width) for (const [i, element] of tiles) place(element, i);
    soon();
  });
  watch.observe(holder);
  addEventListener("scroll", soon, { passive: true });

  return {
    get columns() { return columns; },
    get perScreen() { return columns * Math.max(1, Math.floor((innerHeight - ABOVE - BELOW) / rowHeight)); },
    element: (i) => tiles.get(i),
    pin(i) { pinned = i; },
    show,
    redo(i) {
      if (!tiles.has(i)) return;
      drop(i);
      put(i);
    },
    reveal(i) {
      const start = holder.getBoundingClientRect().top + scrollY;
      const top = Math.floor(i / columns) * rowHeight;
      const seen = scrolledBy() * stretch() + Math.min(0, scrollY - start);
      let wanted = null;
      if (i < columns) wanted = -start;
      else if (top < seen + ABOVE) wanted = top - ABOVE;
      else if (top + rowHeight > seen + innerHeight - BELOW) wanted = top + rowHeight - innerHeight + BELOW;
      if (wanted !== null) scrollTo({ top: start + wanted / stretch(), behavior: "instant" });
      render();
      return tiles.get(i) ?? put(i);
    },
    stop() {
      watch.disconnect();
      removeEventListener("scroll", soon);
      cancelAnimationFrame(frame);
      clearTimeout(rest);
    },
  };
}
