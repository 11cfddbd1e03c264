// The images that a person has picked out: a set of row numbers, shared by every view.
//
//   const select = createSelection()
//   select.size, select.has(row), select.rows()   rows in the order in which they were picked
//   select.toggle(row), select.add(rows), select.remove(rows), select.set(rows), select.clear()
//   select.subscribe(listener)                    → off(); called after every change
//
// Clicks and keys on a grid of images are in tiles.js, which every view with such a grid uses.

export function createSelection() {
  const rows = new Set();
  const listeners = new Set();

  function change(work) {
    const before = rows.size;
    work();
    if (before || rows.size) for (const listener of [...listeners]) listener();
  }

  return {
    get size() { return rows.size; },
    has: (row) => rows.has(row),
    rows: () => [...rows],
    toggle: (row) => change(() => { if (!rows.delete(row)) rows.add(row); }),
    add: (some) => change(() => { for (const row of some) rows.add(row); }),
    remove: (some) => change(() => { for (const row of some) rows.delete(row); }),
    set: (some) => change(() => { rows.clear(); for (const row of some) rows.add(row); }),
    clear: () => change(() => rows.clear()),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
