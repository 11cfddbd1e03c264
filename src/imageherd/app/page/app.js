// Starts the page: which clustering, which view, undo and redo, export, theme, the server's events.
//
// A view is a module that exports `async function show(root, context)`, which fills root (an empty
// element in <main>), and returns a function that takes the view down. It starts with heading(…).
// context = {
//   store, api, select, actions, notices      see store.js, api.js, select.js, actions.js, notices.js
//   params: {uid, query}                       the cluster's uid in the address, or null; URLSearchParams
//   to(view, {uid, …query})                    the address of a view: "clusters" "cluster" "map" "search"
//                                              "compare" "history"; go(address) goes there
//   signal                                     an AbortSignal: the person has left this view
// }

import * as api from "./api.js";
import { createActions } from "./actions.js";
import { byId, isTyping, make, message } from "./dom.js";
import { createNotices } from "./notices.js";
import { keyed } from "./pictures.js";
import { createSelection } from "./select.js";
import { createStore } from "./store.js";

const VIEWS = {
  clusters: () => import("./view-clusters.js"),
  cluster: () => import("./view-cluster.js"),
  map: () => import("./view-map.js"),
  search: () => import("./view-search.js"),
  compare: () => import("./view-compare.js"),
  history: () => import("./view-history.js"),
};
const TITLES = { clusters: "Clusters", cluster: "Cluster", map: "Map", search: "Search", compare: "Compare", history: "History" };

const notices = createNotices();
const store = createStore();
const select = createSelection();
const actions = createActions({ store, select, notices, go, to });
const scrolled = new Map();
let leave = () => {};
let stopListening = () => {};
let here = null;

export function to(view, { uid, ...query } = {}, clustering = store.name) {
  const path = ["", "c", encodeURIComponent(clustering), ...(view === "clusters" ? [] : [view]), ...(uid === undefined ? [] : [uid])];
  const asked = new URLSearchParams(query).toString();
  return `#${path.join("/")}${asked ? `?${asked}` : ""}`;
}

export function go(address) {
  location.hash = address;
}

function whereTo() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const [, mark, name, view = "clusters", uid] = path.split("/");
  const known = mark === "c" && name && view in VIEWS && (view !== "cluster" || /^-?\d+$/.test(uid ?? ""));
  if (!known) return null;
  return { clustering: decodeURIComponent(name), view, uid: uid === undefined ? null : Number(uid), query: new URLSearchParams(query) };
}

async function openClustering(name) {
  stopListening();
  await store.open(name);
  stopListening = api.listen(name, {
    onState: (state) => store.heard(state).catch(notices.problem),
    onLost: () => notices.connection("The connection to imageherd serve is lost. Trying again …"),
    onBack: () => { notices.connection(null); store.refresh().catch(notices.problem); },
  });
}

// A person who hurries from view to view must end in the last one, whichever loads first.
let turn = 0;
async function route() {
  const mine = ++turn;
  const wanted = whereTo();
  const root = byId("view");
  if (!wanted) {
    const first = store.herd.clusterings[0];
    if (first) location.replace(to("clusters", {}, first.name));
    else root.replaceChildren(message("There is no clustering yet: run imageherd cluster first."));
    return;
  }
  if (here) scrolled.set(here, scrollY);
  const isFirst = here === null;
  here = location.hash;
  leave();
  leave = () => {};
  select.clear();
  const controller = new AbortController();
  try {
    if (wanted.clustering !== store.name) await openClustering(wanted.clustering);
    const module = await VIEWS[wanted.view]();
    if (mine !== turn) return;
    const place = make("div", { class: `view of-${wanted.view}` });
    root.replaceChildren(place);
    const { uid, query } = wanted;
    markWhere(wanted);
    const takeDown = await module.show(place, { store, api, select, actions, notices, go, to, params: { uid, query }, signal: controller.signal });
    const end = () => { controller.abort(); takeDown?.(); };
    if (mine !== turn) { end(); return; }
    leave = end;
    scrollTo({ top: scrolled.get(here) ?? 0, behavior: "instant" });
    const title = place.querySelector("h1");
    if (!isFirst && !place.contains(document.activeElement)) (title ?? root).focus({ preventScroll: true });
    document.title = `${title?.textContent || TITLES[wanted.view]} · ${store.herd.name}`;
  } catch (error) {
    if (mine !== turn || error.name === "AbortError") return;
    controller.abort();
    root.replaceChildren(message(error.message), make("p", {}, make("button", { type: "button", class: "plain", onclick: route }, "Try again")));
  }
}

function markWhere({ view, clustering }) {
  for (const tab of byId("tabs").children) {
    tab.setAttribute("href", to(tab.dataset.view));
    const current = tab.dataset.view === view || (view === "cluster" && tab.dataset.view === "clusters");
    if (current) tab.setAttribute("aria-current", tab.dataset.view === view ? "page" : "true");
    else tab.removeAttribute("aria-current");
  }
  byId("clustering").value = clustering;
}

function showHerd() {
  keyed(store.herd.v);
  byId("herd-name").textContent = store.herd.name;
  const names = store.herd.clusterings.map(({ name }) => make("option", { value: name }, name));
  byId("clustering").replaceChildren(...names);
  byId("clustering-pick").hidden = names.length === 0;
  byId("clustering").addEventListener("change", () => go(to(whereTo()?.view === "map" ? "map" : "clusters", {}, byId("clustering").value)));
}

function showUndo() {
  for (const [id, edit, word] of [["undo", store.undo, "Undo"], ["redo", store.redo, "Redo"]]) {
    const button = byId(id);
    button.disabled = !edit;
    const said = edit ? `${word}: ${edit.said}` : word;
    button.setAttribute("aria-label", said);
    button.title = edit ? `${said} (Ctrl+${id === "undo" ? "Z" : "Shift+Z"})` : `Nothing to ${id}`;
  }
  const formats = [["csv", "CSV table"], ["json", "JSON"], ["parquet", "Parquet"]];
  byId("export-links").replaceChildren(...formats.map(([format, label]) =>
    make("a", { href: `/api/${api.of(store.name, "export")}?format=${format}`, download: true }, label)));
}

function startTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => document.dispatchEvent(new Event("themechange"));
  byId("theme").addEventListener("click", () => {
    const isDark = root.dataset.theme === "auto" ? dark.matches : root.dataset.theme === "dark";
    root.dataset.theme = isDark ? "light" : "dark";
    try {
      localStorage.setItem("imageherd-theme", root.dataset.theme);
    } catch { /* A browser that forgets is no reason not to switch. */ }
    paint();
  });
  dark.addEventListener("change", paint);
}

function startKeys() {
  byId("undo").addEventListener("click", actions.undo);
  byId("redo").addEventListener("click", actions.redo);
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("view").focus(); });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || isTyping(event) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    if (event.shiftKey) actions.redo();
    else actions.undo();
  });
  document.addEventListener("click", (event) => { if (!byId("export").contains(event.target)) byId("export").open = false; });
  byId("export").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    byId("export").open = false;
    byId("export").querySelector("summary").focus();
  });
  byId("export-links").addEventListener("click", () => { byId("export").open = false; });
}

async function start() {
  startTheme();
  startKeys();
  store.subscribe(showUndo);
  addEventListener("hashchange", route);
  try {
    await store.loadHerd();
    showHerd();
  } catch (error) {
    byId("view").replaceChildren(message(error.message), make("p", {}, make("button", { type: "button", class: "plain", onclick: () => location.reload() }, "Try again")));
    return;
  }
  await route();
}

start();
