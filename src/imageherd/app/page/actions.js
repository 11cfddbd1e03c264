// What a person can do to images and clusters, from every view; each asks what it needs to ask.
//
//   const actions = createActions({store, select, notices, go, to})
//   await actions.moveTo(rows), .newCluster(rows), .nowhere(rows), .rename(uid), .merge(uids), .split(uid)
//   await actions.undo(), .redo()          each gives the server's answer, or null: given up or failed
//   actions.moreLike(rows)                 goes to the search for what resembles them
//   await actions.send(body)               any edit; says what was done, shows conflicts and failures
//   actions.offer(label, buttons)          puts other buttons into the bar at the foot; offer(null) ends it
//   actions.home(element)                  where the focus goes when the bar leaves
//
// While anything is selected the bar is there, and the keys m, n, o, s and Esc work.

import { ApiError, newKey } from "./api.js";
import { byId, isTyping, make, nameOf, plural } from "./dom.js";
import { askMerge, askName, askSplit, chooseCluster, showConflict } from "./dialogs.js";

const MOST_LIKE = 100;

export function createActions({ store, select, notices, go, to }) {
  const bar = byId("actions");
  let home = null;
  let offered = null;

  // The same key goes with every further try, so that an answer lost on the way does nothing twice.
  async function attempt(run, key = newKey()) {
    try {
      const answer = await run(key);
      notices.say(sentence(answer.edit.said), store.undo ? { label: "Undo", run: actions.undo } : null);
      return answer;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 409) {
        await store.refresh();
        return (await showConflict(error)) ? attempt(run) : null;
      }
      return new Promise((resolve) => {
        notices.problem(error, { label: "Try again", run: () => resolve(attempt(run, key)) });
        resolve(null);
      });
    } finally {
      goHome();
    }
  }

  const sentence = (said) => said.charAt(0).toLocaleUpperCase() + said.slice(1) + (/[.!?…]$/.test(said) ? "" : ".");

  function goHome() {
    const lost = document.activeElement === document.body || bar.contains(document.activeElement);
    if (lost && home?.isConnected) home.focus({ preventScroll: true });
  }

  const actions = {
    send: (body) => attempt((key) => store.edit(body, { key })),
    undo: () => (store.undo ? attempt((key) => store.undoLast(key)) : null),
    redo: () => (store.redo ? attempt((key) => store.redoNext(key)) : null),

    async moveTo(rows) {
      const chosen = await chooseCluster(store, { title: `Move ${store.things(rows.length)} to …`, canMake: true });
      if (!chosen) return null;
      if (chosen.name !== undefined) return makeCluster(rows, chosen.name);
      return moved(rows, await actions.send({ kind: "move", rows, to: chosen.uid }));
    },
    async newCluster(rows) {
      const name = await askName({ title: `A new cluster of ${store.things(rows.length)}`, label: "Name, if you have one", action: "Make it", optional: true });
      return name === null ? null : makeCluster(rows, name);
    },
    async nowhere(rows) {
      return moved(rows, await actions.send({ kind: "outlier", rows }));
    },
    // Of very many a fair share says the same, and fits into an address.
    moreLike(rows) {
      const step = Math.ceil(rows.length / MOST_LIKE);
      go(to("search", { row: rows.filter((_, i) => i % step === 0).join(",") }));
    },

    async rename(uid) {
      const name = await askName({ title: `Rename ${nameOf(store.cluster(uid))}`, label: "Name", value: store.cluster(uid).name, action: "Rename", suggestFor: { store, uid } });
      return name ? actions.send({ kind: "rename", uid, name }) : null;
    },
    async merge(uids) {
      const chosen = await askMerge(store, uids);
      return chosen ? actions.send({ kind: "merge", uids: chosen }) : null;
    },
    async split(uid) {
      const parts = await askSplit(store, uid);
      return parts ? actions.send({ kind: "split", uid, parts }) : null;
    },

    offer(label, buttons = []) {
      offered = label === null ? null : { label, buttons };
      show();
    },
    home(element) { home = element; },
  };

  function moved(rows, answer) {
    if (answer) select.remove(rows);
    return answer;
  }

  async function makeCluster(rows, name) {
    const known = new Set(store.clusters.map(({ uid }) => uid));
    const answer = moved(rows, await actions.send({ kind: "move", rows, to: null }));
    const made = answer && store.clusters.find(({ uid }) => !known.has(uid));
    return made && name ? actions.send({ kind: "rename", uid: made.uid, name }) : answer;
  }

  const onRows = [
    { key: "m", label: "Move to …", run: () => actions.moveTo(select.rows()) },
    { key: "n", label: "New cluster", run: () => actions.newCluster(select.rows()) },
    { key: "o", label: "Fits nowhere", run: () => actions.nowhere(select.rows()) },
    { key: "s", label: "More like this", run: () => actions.moreLike(select.rows()) },
    { key: "Escape", label: "Clear", run: () => { select.clear(); goHome(); }, quiet: true },
  ];

  function current() {
    if (offered) return offered;
    if (!select.size) return null;
    return { label: `${store.things(select.size)} selected`, buttons: onRows };
  }

  function show() {
    const now = current();
    if (!now && !bar.hidden) goHome();
    bar.hidden = !now;
    document.body.classList.toggle("has-actions", Boolean(now));
    if (!now) return;
    bar.replaceChildren(make("span", { class: "chosen", id: "chosen" }, now.label),
      ...now.buttons.map(({ key, label, run, quiet }) => make("button",
        { type: "button", class: quiet ? "plain quiet" : "plain", "aria-keyshortcuts": key, onclick: run },
        label, make("kbd", { "aria-hidden": "true" }, key === "Escape" ? "Esc" : key.toUpperCase()))));
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]")) return;
    const wanted = current()?.buttons.find(({ key }) => key === (event.key.length === 1 ? event.key.toLowerCase() : event.key));
    if (!wanted) return;
    event.preventDefault();
    wanted.run();
  });

  select.subscribe(show);
  return actions;
}
