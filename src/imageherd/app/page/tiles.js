// A grid of images to pick from, by mouse and keyboard: one cluster, search hits, images that changed group.
//
//   const tiles = imageTiles({context, label, n, page, remark, within})
//   root.append(tiles.element)     at once, before anything is awaited
//     page(offset, limit, signal)  → promise of Items, in order (hits already here: slice them)
//     remark(item)                 a word beneath a picture, or null; label: the grid's accessible name
//     within                       the uid of the cluster that all of them are in, if they are in one
//   tiles.reload(n)                asks for everything afresh, keeping scroll, selection and focus
//   tiles.stop()                   to be called when the view is taken down
//
// Arrows move, Shift+arrow and Shift+click select what lies between, x and Space and Ctrl+click toggle,
// a selects all, Enter opens the large view. The grid keeps the focus itself (aria-activedescendant),
// so that no edit can remove the focused element.

import { fileName, make, percent } from "./dom.js";
import { showLarge } from "./large.js";
import { itemPages } from "./paging.js";
import { forget, picture } from "./pictures.js";
import { virtualGrid } from "./virtual.js";

let grids = 0;

export function imageTiles({ context, label, n = 0, page, remark = () => null, within = null }) {
  const { store, select, notices, actions, signal } = context;
  const prefix = `tiles-${++grids}`;
  const element = make("div", { class: "tiles-grid", role: "listbox", tabindex: 0, "aria-label": label, "aria-multiselectable": "true" });
  let at = 0;
  let anchor = 0;
  let base = [];
  let length = n;
  let selecting = 0;

  const isWords = store.herd.noun !== "image";
  const [narrow, wide] = isWords ? [160, 230] : [104, 152];
  const isNarrow = () => innerWidth < 600;
  const grid = virtualGrid(element, {
    minWidth: () => (isNarrow() ? narrow : wide), gap: () => (isNarrow() ? 6 : 10), height: (width) => (isWords ? 118 : width) + 24,
    make: tile, key, number, release: forget, settled: load,
  });
  const pages = itemPages(page, signal, (from, to) => { for (let i = from; i < to; i += 1) grid.redo(i); });

  function key(i) {
    const item = pages.item(i);
    return item ? `${item.row} ${remark(item) ?? ""}` : null;
  }

  function tile(i) {
    const item = pages.item(i);
    const note = item && remark(item);
    const name = item && fileName(item.name);
    const option = make("div", { role: "option", "aria-label": item ? [name, note].filter(Boolean).join(", ") : "Not loaded yet", "data-row": item?.row },
      make("div", { class: "tile-picture" }, item ? picture(item.row, { size: 192, item }) : null, make("i", { class: "tick", "aria-hidden": "true" })),
      make("div", { class: "tile-caption", "aria-hidden": "true" }, item ? [make("bdi", {}, name), note && make("span", {}, note)] : null));
    number(option, i);
    return option;
  }

  function number(option, i) {
    option.id = `${prefix}-${i}`;
    option.dataset.i = i;
    option.className = `tile placed${i === at ? " at" : ""}`;
    option.setAttribute("aria-posinset", i + 1);
    option.setAttribute("aria-setsize", length);
    option.setAttribute("aria-selected", String(select.has(Number(option.dataset.row ?? NaN))));
  }

  function load(first, last) {
    if (!length) return;
    element.setAttribute("aria-busy", "true");
    pages.load(first, last - 1).then(() => element.setAttribute("aria-busy", "false"),
      (error) => notices.problem(error, { label: "Try again", run: () => load(first, last) }));
  }

  function moveTo(i, { reveal = true } = {}) {
    const old = at;
    at = Math.max(0, Math.min(i, length - 1));
    grid.pin(at);
    if (reveal && length) grid.reveal(at);
    grid.element(old)?.classList.remove("at");
    grid.element(at)?.classList.add("at");
    if (length) element.setAttribute("aria-activedescendant", `${prefix}-${at}`);
    else element.removeAttribute("aria-activedescendant");
  }

  // A hundred thousand rows take a while to come; what the person has done since then counts more.
  // What was selected before the anchor was set stays so.
  async function selectBetween(a, b) {
    const mine = ++selecting;
    const slow = setTimeout(() => notices.say("Selecting …"), 700);
    try {
      const found = await pages.rows(Math.min(a, b), Math.max(a, b));
      if (mine !== selecting) return;
      select.set([...base, ...found]);
    } catch (error) {
      notices.problem(error);
    } finally {
      clearTimeout(slow);
    }
  }

  async function toggle(i) {
    selecting += 1;
    const [row] = await pages.rows(i, i).catch((error) => { notices.problem(error); return []; });
    if (row !== undefined) select.toggle(row);
    anchorAt(i);
  }

  function anchorAt(i) {
    anchor = i;
    base = select.rows();
  }

  function open(i) {
    showLarge({ context, n: () => length, at: i, itemAt: pages.one, moved: moveTo, closed: () => element.focus({ preventScroll: true }) });
  }

  function mark() {
    for (const option of element.children) option.setAttribute("aria-selected", String(select.has(Number(option.dataset.row ?? NaN))));
  }

  element.addEventListener("mousedown", (event) => { if (event.shiftKey) event.preventDefault(); });
  element.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (!option) return;
    element.focus({ preventScroll: true });
    const i = Number(option.dataset.i);
    moveTo(i, { reveal: false });
    if (event.shiftKey) selectBetween(anchor, i);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".tick") || select.size) toggle(i);
    else { anchorAt(i); open(i); }
  });

  element.addEventListener("keydown", (event) => {
    if (event.altKey || !length) return;
    const command = event.ctrlKey || event.metaKey;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, Home: -length, End: length, PageUp: -grid.perScreen, PageDown: grid.perScreen };
    if (event.key in steps) {
      moveTo(at + steps[event.key]);
      if (event.shiftKey) selectBetween(anchor, at);
      else anchorAt(at);
    } else if (event.key === "a") selectBetween(0, length - 1);
    else if (command) return;
    else if (event.key === "x" || event.key === " ") toggle(at);
    else if (event.key === "Enter") open(at);
    else return;
    event.preventDefault();
  });

  const off = select.subscribe(() => {
    if (!select.size) {
      selecting += 1;
      anchorAt(at);
    }
    mark();
  });
  actions.home(element, within);
  queueMicrotask(() => { if (!signal.aborted) show(); });

  function show() {
    at = Math.max(0, Math.min(at, length - 1));
    element.dataset.n = length;
    grid.show(length);
    moveTo(at, { reveal: false });
  }

  return {
    element,
    async reload(now) {
      pages.forget();
      length = now;
      // What is on the screen is asked for first, so that the change is seen without an empty moment.
      const shown = [...element.children].map((option) => Number(option.dataset.i));
      if (shown.length && now) {
        const last = Math.min(Math.max(...shown), now - 1);
        await pages.load(Math.min(Math.min(...shown), last), last).catch(notices.problem);
      }
      if (!signal.aborted && now === length) show();
    },
    stop() {
      off();
      grid.stop();
    },
  };
}

// How sure the model is of an image, in the report's words.
export const sureness = (item) => (item.by_hand ? "by hand" : item.probability === null ? null : percent(item.probability));
