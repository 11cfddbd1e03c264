// A grid of any number of tiles, of which only those near the window exist.
//
//   const grid = virtualGrid(holder, {minWidth, gap, height(width), make(i), release(element, i), settled(from, to)})
//   grid.show(n)          how many there are now; every tile on the page is made afresh
//   grid.redo(i)          makes tile i afresh, if it is there
//   grid.element(i)       the tile, or undefined; grid.reveal(i) scrolls until it is in sight, and makes it
//   grid.columns          now; grid.pin(i): this tile stays, however far it is scrolled (it has the focus)
//   grid.stop()
//
// The window scrolls, not the holder. Browsers give up near 17 million pixels of height: beyond
// TALLEST the holder stays that tall and each pixel of the scroll bar stands for several.

const TALLEST = 12_000_000;
const AHEAD = 700;
const REST = 90;

export function virtualGrid(holder, { minWidth, gap, height, make, release = () => {}, settled = () => {} }) {
  const tiles = new Map();
  let n = 0;
  let columns = 1;
  let width = minWidth;
  let rowHeight = 1;
  let pinned = null;
  let frame = 0;
  let rest = 0;

  const total = () => Math.ceil(n / columns) * rowHeight;
  const stretch = () => {
    const view = innerHeight;
    return total() > TALLEST ? (total() - view) / (TALLEST - view) : 1;
  };
  const scrolledBy = () => Math.max(0, -holder.getBoundingClientRect().top);

  function measure() {
    const room = holder.clientWidth;
    columns = Math.max(1, Math.floor((room + gap) / (minWidth + gap)));
    width = (room - gap * (columns - 1)) / columns;
    rowHeight = Math.round(height(width)) + gap;
    holder.style.height = `${Math.min(total(), TALLEST)}px`;
  }

  function span() {
    const top = scrolledBy() * stretch();
    const first = Math.max(0, Math.floor((top - AHEAD) / rowHeight)) * columns;
    const last = Math.min(n, Math.ceil((top + innerHeight + AHEAD) / rowHeight) * columns);
    return [first, last];
  }

  function place(element, i) {
    const by = scrolledBy();
    const shift = by - by * stretch();
    element.style.transform = `translate(${(i % columns) * (width + gap)}px, ${Math.floor(i / columns) * rowHeight + shift}px)`;
    element.style.width = `${width}px`;
    element.style.height = `${rowHeight - gap}px`;
  }

  function drop(i) {
    const element = tiles.get(i);
    tiles.delete(i);
    element.remove();
    release(element, i);
  }

  function put(i) {
    const element = make(i);
    element.classList.add("placed");
    tiles.set(i, element);
    place(element, i);
    // The order of the elements is the order in which a screen reader meets them.
    const after = [...tiles.keys()].filter((other) => other > i).reduce((least, other) => Math.min(least, other), Infinity);
    holder.insertBefore(element, after === Infinity ? null : tiles.get(after));
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

  function resized() {
    const before = [columns, width];
    measure();
    if (before[0] !== columns || before[1] !== width) for (const [i, element] of tiles) place(element, i);
    soon();
  }

  const watch = new ResizeObserver(resized);
  watch.observe(holder);
  addEventListener("scroll", soon, { passive: true });

  return {
    get columns() { return columns; },
    element: (i) => tiles.get(i),
    pin(i) { pinned = i; },
    show(now) {
      n = now;
      for (const i of [...tiles.keys()]) drop(i);
      measure();
      render();
    },
    redo(i) {
      if (!tiles.has(i)) return;
      drop(i);
      put(i);
    },
    reveal(i) {
      const top = Math.floor(i / columns) * rowHeight;
      const start = holder.getBoundingClientRect().top + scrollY;
      const [above, below] = [100, 110];
      const now = scrolledBy() * stretch() + Math.min(0, scrollY - start);
      let wanted = null;
      if (top < now + above) wanted = top - above;
      else if (top + rowHeight > now + innerHeight - below) wanted = top + rowHeight - innerHeight + below;
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
