// A grid of images to pick from, by mouse and keyboard: one cluster, search hits, images that changed group.
//
//   const tiles = imageTiles({context, label, n, page, remark, open, key})
//   root.append(tiles.element)
//     page(offset, limit, signal)  → promise of Items, in order (hits already here: slice them)
//     remark(item)                 a word beneath a picture, or null; label: the grid's accessible name
//   tiles.reload(n)                asks for everything afresh, keeping scroll, selection and focus
//   tiles.stop()                   to be called when the view is taken down
//
// Arrows move, Shift+arrow and Shift+click select what lies between, x and Space and Ctrl+click toggle,
// a selects all, Enter opens the large view. The grid keeps the focus itself (aria-activedescendant),
// so that no edit can remove the focused element.

import { fileName, make, percent } from "./dom.js";
import { showLarge } from "./large.js";
import { forget, picture } from "./pictures.js";
import { virtualGrid } from "./virtual.js";

const PAGE = 200;
let grids = 0;

export function imageTiles({ context, label, n = 0, page, remark = () => null }) {
  const { select, notices, actions } = context;
  const prefix = `tiles-${++grids}`;
  const element = make("div", { class: "tiles-grid", role: "listbox", tabindex: 0, "aria-label": label, "aria-multiselectable": "true" });
  let pages = new Map();
  let loading = new Map();
  let at = 0;
  let anchor = 0;
  let length = n;
  let generation = 0;

  const narrow = () => element.clientWidth < 600;
  const grid = virtualGrid(element, {
    minWidth: narrow() || innerWidth < 600 ? 104 : 148, gap: innerWidth < 600 ? 6 : 10, height: (width) => width + 22,
    make: tile, release: (old) => forget(old), settled: load,
  });

  const itemAt = (i) => pages.get(Math.floor(i / PAGE))?.[i % PAGE];

  function tile(i) {
    const item = itemAt(i);
    const note = item && remark(item);
    const chosen = Boolean(item && select.has(item.row));
    return make("div", { class: `tile${i === at ? " at" : ""}`, role: "option", id: `${prefix}-${i}`, "aria-selected": String(chosen), "aria-posinset": i + 1, "aria-setsize": length, "aria-label": item ? [fileName(item.name), note].filter(Boolean).join(", ") : "Not loaded yet", "data-i": i, "data-row": item?.row },
      make("div", { class: "tile-picture" }, item ? picture(item.row, { size: 192, item }) : null, make("i", { class: "tick", "aria-hidden": "true" })),
      make("div", { class: "tile-caption", "aria-hidden": "true" }, item ? [make("bdi", {}, fileName(item.name)), note && make("span", {}, note)] : null));
  }

  // One request a page, and one at a time for it; a page that came from an older state is thrown away.
  function fetchPage(p) {
    if (pages.has(p)) return Promise.resolve(pages.get(p));
    if (!loading.has(p)) {
      const mine = generation;
      loading.set(p, page(p * PAGE, PAGE, context.signal).then((items) => {
        if (mine !== generation) return fetchPage(p);
        pages.set(p, items);
        loading.delete(p);
        for (let i = p * PAGE; i < p * PAGE + items.length; i += 1) grid.redo(i);
        return items;
      }, (error) => {
        if (mine === generation) loading.delete(p);
        throw error;
      }));
    }
    return loading.get(p);
  }

  function load(first, last) {
    if (!length) return;
    for (let p = Math.floor(first / PAGE); p <= Math.floor(Math.max(first, last - 1) / PAGE); p += 1) {
      fetchPage(p).catch((error) => notices.problem(error, { label: "Try again", run: () => load(first, last) }));
    }
  }

  async function items(from, to) {
    const wanted = [];
    for (let p = Math.floor(from / PAGE); p <= Math.floor(to / PAGE); p += 1) wanted.push(await fetchPage(p));
    const skipped = Math.floor(from / PAGE) * PAGE;
    return wanted.flat().slice(from - skipped, to - skipped + 1);
  }

  function moveTo(i, { reveal = true } = {}) {
    const old = at;
    at = Math.min(Math.max(i, 0), length - 1);
    grid.pin(at);
    if (reveal) grid.reveal(at);
    grid.element(old)?.classList.remove("at");
    grid.element(at)?.classList.add("at");
    if (length) element.setAttribute("aria-activedescendant", `${prefix}-${at}`);
  }

  async function selectBetween(a, b, keep) {
    try {
      const found = (await items(Math.min(a, b), Math.max(a, b))).map(({ row }) => row);
      if (keep) select.add(found);
      else select.set(found);
    } catch (error) {
      notices.problem(error);
    }
  }

  async function toggle(i) {
    anchor = i;
    const [item] = await items(i, i);
    if (item) select.toggle(item.row);
  }

  function open(i) {
    showLarge({ context, n: length, at: i, itemAt: async (j) => (await items(j, j))[0], moved: (j) => moveTo(j) });
  }

  const mark = () => {
    for (const option of element.children) option.setAttribute("aria-selected", String(select.has(Number(option.dataset.row ?? NaN))));
  };

  element.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (!option) return;
    const i = Number(option.dataset.i);
    moveTo(i, { reveal: false });
    if (event.shiftKey) selectBetween(anchor, i, event.ctrlKey || event.metaKey);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".tick") || select.size) toggle(i);
    else { anchor = i; open(i); }
  });

  element.addEventListener("keydown", (event) => {
    if (event.altKey || !length) return;
    const rows = Math.max(1, Math.floor(innerHeight / (element.firstElementChild?.offsetHeight || 150)) - 1);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, Home: -length, End: length, PageUp: -rows * grid.columns, PageDown: rows * grid.columns };
    const command = event.ctrlKey || event.metaKey;
    if (event.key in steps) {
      const before = at;
      moveTo(at + steps[event.key]);
      if (event.shiftKey) selectBetween(select.size ? anchor : (anchor = before), at, false);
      else anchor = at;
    } else if (event.key === "x" || event.key === " ") toggle(at);
    else if (event.key === "a") selectBetween(0, length - 1, false);
    else if (event.key === "Enter" && !command) open(at);
    else return;
    event.preventDefault();
  });

  const off = select.subscribe(mark);
  actions.home(element);

  const tiles = {
    element,
    reload(now) {
      length = now;
      generation += 1;
      loading = new Map();
      const old = pages;
      pages = new Map();
      at = Math.min(at, Math.max(0, length - 1));
      element.dataset.n = length;
      // What is on the screen is asked for first, so that the change is seen without an empty moment.
      const shown = [...element.children].map((option) => Number(option.dataset.i));
      const [first, last] = shown.length ? [Math.min(...shown), Math.max(...shown)] : [0, PAGE - 1];
      if (old.size && length) {
        return items(first, Math.min(last, length - 1)).then(() => grid.show(length), notices.problem);
      }
      grid.show(length);
      return Promise.resolve();
    },
    stop() {
      off();
      grid.stop();
    },
  };
  requestAnimationFrame(() => tiles.reload(length));
  return tiles;
}

// How sure the model is of an image, in the report's words.
export const sureness = (item) => (item.by_hand ? "by hand" : item.probability === null ? null : `${percent(item.probability)} sure`);
