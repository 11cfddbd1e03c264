// The clustering that is on the screen, as the server last told it.
//
//   const store = createStore()
//   store.herd                 answer of GET /api/herd (null before the first load)
//   store.name, store.state    the clustering's name; the state that everything shown rests on
//   store.clusters             clusters, largest first; store.cluster(uid) one of them, or undefined
//   store.nowhere              {uid: -1, size, …}: what fits nowhere, in the form of a cluster
//   store.undo, store.redo     the edits that would be undone and redone next, or null
//   store.about                the answer's other facts: version, method, n_images
//   store.things(n)            "3 images", in the herd's own noun
//   await store.loadHerd(), store.open(name), store.refresh()
//   await store.edit(body, {key})  sends an edit, applies the answer and returns it; .undoLast(), .redoNext()
//   store.subscribe(listener)  → off(); listener({uids, mine, before}): which uids changed (null:
//                              anything may have), whether by this page, and the state before

import * as api from "./api.js";
import { NOWHERE, plural } from "./dom.js";

const MANY = { image: "images", text: "texts", row: "rows", vector: "vectors" };

export function createStore() {
  const listeners = new Set();
  let byUid = new Map();
  let queue = Promise.resolve();

  const store = {
    herd: null, name: null, state: null, clusters: [], nowhere: null, undo: null, redo: null, about: null,
    cluster: (uid) => (uid === NOWHERE ? store.nowhere : byUid.get(uid)),
    things: (n) => plural(n, store.herd.noun, MANY[store.herd.noun] ?? `${store.herd.noun}s`),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async loadHerd() {
      store.herd = await api.get("herd");
    },
    async open(name) {
      const answer = await api.get(api.of(name));
      store.name = name;
      take(answer);
      tell({ uids: null, mine: false, before: null });
    },
    // After a person's own edits in flight: else their answers would be applied to a newer state.
    refresh: () => inTurn(async () => {
      const before = store.state;
      const answer = await api.get(api.of(store.name));
      if (answer.state === before) return;
      take(answer);
      tell({ uids: null, mine: false, before });
    }),
    // What the server says by itself; an edit of our own has often been applied already.
    heard: (state) => inTurn(async () => {}).then(() => (state === store.state ? undefined : store.refresh())),
    edit: (body, { key } = {}) => send("edits", body, key),
    undoLast: (key) => send("undo", {}, key),
    redoNext: (key) => send("redo", {}, key),
  };

  function tell(event) {
    for (const listener of [...listeners]) listener(event);
  }

  // One at a time: two quick edits would otherwise both rest on the state before the first.
  function inTurn(work) {
    const done = queue.then(work);
    queue = done.catch(() => {});
    return done;
  }

  function send(what, body, key = api.newKey()) {
    return inTurn(async () => {
      const before = store.state;
      const answer = await api.post(api.of(store.name, what), body, { state: before, key });
      // An edit that had been made by an earlier try tells of no change against what is here.
      const isStep = answer.before === before;
      if (isStep) apply(answer);
      else take(await api.get(api.of(store.name)));
      tell({ uids: isStep ? new Set([...Object.keys(answer.changed).map(Number), NOWHERE]) : null, mine: true, before });
      return answer;
    });
  }

  // What has not changed stays the same object: views need not draw it again.
  function same(cluster) {
    const old = byUid.get(cluster.uid);
    return old && JSON.stringify(old) === JSON.stringify(cluster) ? old : cluster;
  }

  function take(answer) {
    byUid = new Map(answer.clusters.map((cluster) => [cluster.uid, same(cluster)]));
    store.about = answer;
    settle(answer);
  }

  function apply(answer) {
    for (const [key, cluster] of Object.entries(answer.changed)) {
      const uid = Number(key);
      if (cluster?.size) byUid.set(uid, cluster);
      else byUid.delete(uid);
    }
    settle(answer);
  }

  function settle({ state, undo, redo, nowhere }) {
    if (nowhere.size !== store.nowhere?.size) store.nowhere = { uid: NOWHERE, name: "", confidence: null, runner_up: null, medoids: [], typical: [], doubtful: [], ...nowhere };
    store.state = state;
    store.undo = undo;
    store.redo = redo;
    store.clusters = [...byUid.values()].sort((a, b) => b.size - a.size || a.uid - b.uid);
  }

  return store;
}
