// The bar at the top: which herd and clustering, the views, undo and redo, export, help, the theme.
//
//   const bar = startBar({store, actions, go, to, view()})
//   bar.showHerd()   once the herd is known; bar.mark({view, clustering}) after every change of view

import * as api from "./api.js";
import { byId, count, isTyping, make } from "./dom.js";
import { showKeys } from "./help.js";

const FORMATS = [["csv", "CSV table"], ["json", "JSON"], ["parquet", "Parquet"]];

export function startBar({ store, actions, go, to, view }) {
  function mark({ view: current, clustering }) {
    for (const tab of byId("tabs").children) {
      tab.setAttribute("href", to(tab.dataset.view));
      const isWithin = current === "cluster" && tab.dataset.view === "clusters";
      if (tab.dataset.view === current || isWithin) tab.setAttribute("aria-current", isWithin ? "true" : "page");
      else tab.removeAttribute("aria-current");
    }
    byId("clustering").value = clustering;
    byId("export-links").replaceChildren(...FORMATS.map(([format, label]) =>
      make("a", { href: `/api/${api.of(store.name, "export")}?format=${format}`, download: true }, label)),
    make("p", { class: "quiet" }, "With all changes made by hand."));
  }

  function showHerd() {
    byId("herd-name").textContent = store.herd.name;
    byId("herd-name").title = store.herd.name;
    const names = store.herd.clusterings.map(({ name, n_clusters: n }) => make("option", { value: name }, `${name} (${count(n)})`));
    byId("clustering").replaceChildren(...names);
    byId("clustering-pick").hidden = names.length === 0;
  }

  // Not disabled but said to be: a disabled button would lose the focus to nowhere.
  function showSteps() {
    for (const [id, word, keys] of [["undo", "Undo", "Ctrl+Z"], ["redo", "Redo", "Ctrl+Shift+Z"]]) {
      const edit = store[id];
      const said = edit ? `${word}: ${edit.said}` : `Nothing to ${id}`;
      byId(id).setAttribute("aria-disabled", String(!edit));
      byId(id).setAttribute("aria-label", said);
      byId(id).title = edit ? `${said} (${keys})` : said;
    }
  }

  function startTheme() {
    const root = document.documentElement;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => document.dispatchEvent(new Event("themechange"));
    byId("theme").addEventListener("click", () => {
      const isDark = root.dataset.theme === "auto" ? dark.matches : root.dataset.theme === "dark";
      root.dataset.theme = isDark ? "light" : "dark";
      try {
        localStorage.setItem("imageherd-theme", root.dataset.theme);
      } catch { /* A browser that forgets is no reason not to switch. */ }
      changed();
    });
    dark.addEventListener("change", changed);
  }

  function startMenu() {
    const menu = byId("export");
    const close = () => { menu.open = false; };
    document.addEventListener("click", (event) => { if (!menu.contains(event.target) || event.target.closest("a")) close(); });
    menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) close(); });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      event.preventDefault();
      close();
      menu.querySelector("summary").focus();
    });
  }

  byId("undo").addEventListener("click", actions.undo);
  byId("redo").addEventListener("click", actions.redo);
  byId("keys").addEventListener("click", showKeys);
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("view").focus(); });
  byId("clustering").addEventListener("change", () => {
    const stays = ["map", "search", "compare", "history"].includes(view());
    go(to(stays ? view() : "clusters", {}, byId("clustering").value));
  });
  document.addEventListener("keydown", (event) => {
    if (isTyping(event) || document.querySelector("dialog[open]:not(.large)")) return;
    const isStep = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    const isAgain = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "y";
    if (isAgain || (isStep && event.shiftKey)) actions.redo();
    else if (isStep) actions.undo();
    else if (event.key === "?") showKeys();
    else return;
    event.preventDefault();
  });
  store.subscribe(() => {
    showSteps();
    const option = [...byId("clustering").options].find(({ value }) => value === store.name);
    if (option) option.textContent = `${store.name} (${count(store.clusters.length)})`;
  });
  startTheme();
  startMenu();
  return { mark, showHerd };
}
