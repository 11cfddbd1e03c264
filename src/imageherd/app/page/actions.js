// What a person can do to images and clusters, from every view; each asks what it needs to ask.
//
//   const actions = createActions({store, select, notices, go, to})
//   await actions.moveTo(rows), .newCluster(rows), .nowhere(rows), .rename(uid), .merge(uids), .split(uid)
//   await actions.undo(), .redo()          each gives the server's answer, or null: given up or failed
//   await actions.send(body)               any edit; says what was done, shows conflicts and failures
//   actions.sender()                       → submit(body): the same, but it throws; for forms that stay open
//   actions.moreLike(rows)                 goes to the search for what resembles them
//   actions.offer(label, buttons)          puts other buttons into the bar at the foot; offer(null) ends it
//   actions.home(elementOrFunction, uid)   takes the focus when what had it is gone; uid: the cluster that
//                                          everything that can be selected is in, if it is one
//
// While anything is selected the bar is there, and the keys m, n, o, s and Esc work.

import { newKey } from "./api.js";
import { askName, chooseCluster, showConflict } from "./dialogs.js";
import { byId, isTyping, make, nameOf } from "./dom.js";
import { askMerge, askSplit } from "./shaping.js";

const N_RECENT = 3;
const MOST_LIKE = 100;

export function createActions({ store, select, notices, go, to }) {
  const bar = byId("actions");
  let home = null;
  let within = null;
  let recent = [];
  let offered = null;

  const sentence = (said) => (/[.!?…]$/.test(said) ? said : `${said}.`);

  // A further try goes out under the same key, so that an answer lost on the way does nothing twice;
  // once the server has refused, or something else is asked for, it is another edit.
  function sender() {
    let key = newKey();
    let before = null;
    return async (body) => {
      const asked = JSON.stringify(body);
      if (asked !== before) key = newKey();
      before = asked;
      try {
        const answer = await (body.kind === "undo" ? store.undoLast(key) : body.kind === "redo" ? store.redoNext(key) : store.edit(body, { key }));
        const offer = body.kind !== "undo" && store.undo ? { label: "Undo", run: actions.undo } : null;
        notices.say(sentence(answer.edit.said), offer);
        if (body.kind === "move" || body.kind === "outlier") select.remove(body.rows);
        return answer;
      } catch (error) {
        if (error.status !== 0) key = newKey();
        if (error.status === 409) await store.refresh();
        throw error;
      }
    };
  }

  async function send(body, submit = sender()) {
    try {
      return await submit(body);
    } catch (error) {
      if (error.status === 409) return showConflict(error, () => submit(body));
      notices.problem(error, { label: "Try again", run: () => send(body, submit) });
      return null;
    }
  }

  // To undo what somebody else did in the meantime is not what was meant.
  async function step(kind) {
    if (!store[kind]) return null;
    const submit = sender();
    try {
      return await submit({ kind });
    } catch (error) {
      const others = error.since?.map(({ author, said }) => `${author || "Someone"}: ${sentence(said)}`).join(" ");
      if (error.status === 409) notices.problem(`Nothing was ${kind === "undo" ? "undone" : "done again"}, because somebody else changed something first. ${others ?? ""}`);
      else notices.problem(error, { label: "Try again", run: () => send({ kind }, submit) });
      return null;
    }
  }

  const isLost = () => {
    const { activeElement } = document;
    return !activeElement || activeElement === document.body || bar.contains(activeElement);
  };

  function goHome() {
    if (!isLost() || document.querySelector("dialog[open]")) return;
    if (typeof home === "function") home();
    else if (home?.isConnected) home.focus({ preventScroll: true });
  }

  const returning = (work) => async (...given) => {
    try {
      return await work(...given);
    } finally {
      goHome();
    }
  };

  async function makeCluster(rows, name, submit) {
    const answer = await submit({ kind: "move", rows, to: null });
    if (name) await send({ kind: "rename", uid: answer.edit.payload.to, name });
    return answer;
  }

  const actions = {
    sender,
    send: returning((body) => send(body)),
    undo: returning(() => step("undo")),
    redo: returning(() => step("redo")),
    // Of very many a fair share says the same, and fits into an address.
    moreLike(rows) {
      const step = Math.ceil(rows.length / MOST_LIKE);
      go(to("search", { row: rows.filter((_, i) => i % step === 0).join(",") }));
    },

    moveTo: returning((rows) => {
      const submit = sender();
      async function use({ uid, name }) {
        const answer = await (name === undefined ? submit({ kind: "move", rows, to: uid }) : makeCluster(rows, name, submit));
        const { to: reached } = answer.edit.payload;
        recent = [reached, ...recent.filter((other) => other !== reached)].slice(0, N_RECENT);
        return answer;
      }
      return chooseCluster(store, { title: `Move ${store.things(rows.length)} to …`, canMake: true, except: [within], first: recent, use });
    }),
    newCluster: returning((rows) => {
      const submit = sender();
      return askName({ title: `New cluster of ${store.things(rows.length)}`, label: "Its name, if you have one", action: "Make it", optional: true, use: (name) => makeCluster(rows, name, submit) });
    }),
    nowhere: returning((rows) => send({ kind: "outlier", rows })),

    rename: returning((uid) => {
      const submit = sender();
      const { name } = store.cluster(uid);
      return askName({ title: `Rename “${nameOf(store.cluster(uid))}”`, label: "Name", value: name, action: "Rename", suggestFor: { store, uid }, use: (given) => submit({ kind: "rename", uid, name: given }) });
    }),
    // A union is called by its largest part; another name of them is given to it afterwards.
    merge: returning((uids) => {
      const submit = sender();
      return askMerge(store, uids, async (all, kept) => {
        const answer = await submit({ kind: "merge", uids: all });
        const union = answer.edit.payload.to;
        if (kept.name && store.cluster(union)?.name !== kept.name) await send({ kind: "rename", uid: union, name: kept.name });
        return answer;
      });
    }),
    split: returning((uid) => {
      const submit = sender();
      return askSplit(store, uid, (parts) => submit({ kind: "split", uid, parts }));
    }),

    offer(label, buttons = []) {
      offered = label === null ? null : { label, buttons };
      show();
    },
    home(wanted, uid = null) {
      home = wanted;
      within = uid;
    },
  };

  const onRows = [
    { key: "m", label: "Move to …", run: () => actions.moveTo(select.rows()) },
    { key: "n", label: "New cluster", run: () => actions.newCluster(select.rows()) },
    { key: "o", label: "Fits nowhere", run: () => actions.nowhere(select.rows()) },
    { key: "s", label: "More like this", run: () => actions.moreLike(select.rows()) },
    { key: "Escape", label: "Clear", run: () => select.clear(), quiet: true },
  ];

  function current() {
    if (offered) return offered;
    if (!select.size) return null;
    return { label: `${store.things(select.size)} selected`, buttons: onRows };
  }

  // Buttons that stay keep the focus: they are only made anew when others are wanted.
  let shown = "";
  function show() {
    const now = current();
    const hadFocus = bar.contains(document.activeElement);
    bar.hidden = !now;
    document.body.classList.toggle("has-actions", Boolean(now));
    const wanted = now ? now.buttons.map(({ key, label }) => key + label).join() : "";
    if (now && wanted !== shown) bar.replaceChildren(make("span", { class: "chosen", id: "chosen" }), ...now.buttons.map(button));
    shown = wanted;
    if (now) byId("chosen").textContent = now.label;
    else if (hadFocus) goHome();
  }

  function button({ key, label, quiet }) {
    return make("button", { type: "button", class: quiet ? "plain quiet" : "plain", "aria-keyshortcuts": key, onclick: () => run(key) },
      label, make("kbd", { "aria-hidden": "true" }, key === "Escape" ? "Esc" : key.toUpperCase()));
  }

  function run(pressed) {
    const wanted = current()?.buttons.find(({ key }) => key === pressed);
    wanted?.run();
    return Boolean(wanted);
  }

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]")) return;
    if (run(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
  });

  select.subscribe(show);
  return actions;
}
