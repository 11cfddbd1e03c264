// Starts the page and leads from view to view.
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
import { startBar } from "./bar.js";
import { byId, make, message } from "./dom.js";
import { createNotices } from "./notices.js";
import { begin } from "./pictures.js";
import { createSelection } from "./select.js";
import { createStore } from "./store.js";

const VIEWS = {
  clusters: ["Clusters", () => import("./view-clusters.js")],
  cluster: ["Cluster", () => import("./view-cluster.js")],
  map: ["Map", () => import("./view-map.js")],
  search: ["Search", () => import("./view-search.js")],
  compare: ["Compare", () => import("./view-compare.js")],
  history: ["History", () => import("./view-history.js")],
};

const notices = createNotices();
const store = createStore();
const select = createSelection();
const actions = createActions({ store, select, notices, go, to });
const bar = startBar({ store, actions, go, to, view: () => whereTo()?.view });
const scrolled = new Map();
let leave = () => {};
let stopListening = () => {};
let here = null;
let turn = 0;

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
  if (mark !== "c" || !name || !(view in VIEWS) || (view === "cluster" && !/^-?\d+$/.test(uid ?? ""))) return null;
  try {
    return { clustering: decodeURIComponent(name), view, uid: uid === undefined ? null : Number(uid), query: new URLSearchParams(query) };
  } catch {
    return null;
  }
}

async function openClustering(name) {
  stopListening();
  await store.open(name);
  listen();
}

// Browsers allow a server six connections at a time, over all tabs: a tab that nobody sees keeps none.
function listen() {
  stopListening();
  if (document.hidden || !store.name) return;
  stopListening = api.listen(store.name, {
    onState: (state) => store.heard(state).catch(notices.problem),
    onLost: (why) => notices.connection(why ?? "The connection to imageherd serve is lost. Trying again …"),
    onBack: () => { notices.connection(null); store.refresh().catch(notices.problem); },
  });
}

function tryAgain(error, run) {
  return [message(error.message), make("p", {}, make("button", { type: "button", class: "plain", onclick: run }, "Try again"))];
}

// A person who hurries from view to view must end in the last one, whichever loads first.
async function route() {
  const mine = ++turn;
  const wanted = whereTo();
  const root = byId("view");
  if (!wanted) {
    const first = store.herd.clusterings[0];
    if (first) location.replace(to("clusters", {}, first.name));
    else root.replaceChildren(message("There is no clustering in this herd yet: imageherd cluster makes one."));
    return;
  }
  if (here) scrolled.set(here, scrollY);
  const isFirst = here === null;
  here = location.hash.split("?")[0];
  leave();
  leave = () => {};
  select.clear();
  const controller = new AbortController();
  const { signal } = controller;
  try {
    if (wanted.clustering !== store.name) await openClustering(wanted.clustering);
    const module = await VIEWS[wanted.view][1]();
    if (mine !== turn) return;
    const place = make("div", { class: `view of-${wanted.view}` });
    root.replaceChildren(place);
    actions.home(() => (place.querySelector("h1") ?? root).focus({ preventScroll: true }));
    const { uid, query } = wanted;
    bar.mark(wanted);
    leave = () => controller.abort();
    const takeDown = await module.show(place, { store, api, select, actions, notices, go, to, params: { uid, query }, signal });
    const end = () => { controller.abort(); takeDown?.(); };
    if (mine !== turn) { end(); return; }
    leave = end;
    await new Promise((resolve) => { setTimeout(resolve); });
    if (mine !== turn) return;
    arrive(place, wanted, isFirst);
  } catch (error) {
    if (mine !== turn || error.name === "AbortError") return;
    controller.abort();
    here = null;
    root.replaceChildren(...tryAgain(error, route));
    if (error.status === 404 && store.herd.clusterings.length) root.append(make("p", {}, make("a", { href: to("clusters", {}, store.herd.clusterings[0].name) }, "To a clustering that is there")));
  }
}

function arrive(place, { view }, isFirst) {
  const isPlaced = place.contains(document.activeElement);
  if (!isPlaced || scrolled.has(here)) scrollTo({ top: scrolled.get(here) ?? 0, behavior: "instant" });
  const title = place.querySelector("h1");
  if (!isFirst && !isPlaced && !document.querySelector("dialog[open]")) (title ?? byId("view")).focus({ preventScroll: true });
  document.title = `${title?.textContent || VIEWS[view][0]} · ${store.herd.name}`;
}

async function start() {
  // What a view that was left no longer waits for has been given up on purpose.
  addEventListener("unhandledrejection", (event) => { if (event.reason?.name === "AbortError") event.preventDefault(); });
  document.addEventListener("visibilitychange", () => {
    listen();
    if (!document.hidden && store.name) store.refresh().catch(() => {});
  });
  history.scrollRestoration = "manual";
  try {
    await store.loadHerd();
    begin(store);
    bar.showHerd();
  } catch (error) {
    byId("view").replaceChildren(...tryAgain(error, () => location.reload()));
    return;
  }
  // Not before: who is quick to choose a view would be led there without a herd.
  addEventListener("hashchange", route);
  await route();
}

start();
