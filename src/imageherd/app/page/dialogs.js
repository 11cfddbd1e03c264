// Questions to a person. Each gives a promise of what was done; null when the dialog was closed.
//
//   ask({title, body, action, className, take, ready})  the frame. take() gives the answer, or a promise of
//        it, or null: not yet. While it fails the dialog stays open, says why, and keeps what was typed
//   chooseCluster(store, {title, canMake, except, first, use})  use({uid}) or, with canMake, use({name}): one
//        to be made. first: uids that were chosen lately, which come first while nothing is typed
//   askName({title, label, value, action, optional, suggestFor: {store, uid}, use})   use(name)
//   showConflict(error, again)       what others did meanwhile; again() does it all the same
//   told(error), againAfter(error)   an error as elements: its sentence, and the edits that came between;
//                                    what the button is called that tries once more
//   suggestions(store, uid, use)     → promise of buttons with names that the pictures speak for

import * as api from "./api.js";
import { count, make, named, nameOf } from "./dom.js";
import { picture } from "./pictures.js";

let dialogs = 0;

export function ask({ title, body, action, className = "", take, ready }) {
  return new Promise((resolve) => {
    let answer = null;
    const id = `dialog-${++dialogs}`;
    const wrong = make("div", { class: "dialog-problem", role: "alert" });
    const submit = action && make("button", { type: "submit", class: "strong" }, make("bdi", {}, action));
    const form = make("form", { method: "dialog" },
      make("div", { class: "dialog-head" }, make("h2", { id }, make("bdi", {}, title)),
        make("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
      make("div", { class: "dialog-body" }, body), wrong,
      action && make("div", { class: "dialog-foot" }, make("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Cancel"), submit));
    const dialog = make("dialog", { class: className, "aria-labelledby": id }, form);

    async function finish(asked) {
      if (form.ariaBusy === "true") return;
      form.ariaBusy = "true";
      wrong.replaceChildren();
      try {
        const taken = await asked();
        if (taken === null || taken === undefined) return;
        answer = taken;
        dialog.close();
      } catch (error) {
        wrong.replaceChildren(...told(error));
        if (submit) submit.textContent = againAfter(error);
        else wrong.append(make("p", {}, make("button", { type: "button", class: "plain", onclick: () => finish(asked) }, againAfter(error))));
      } finally {
        form.ariaBusy = "false";
      }
    }

    form.addEventListener("submit", (event) => { event.preventDefault(); finish(take); });
    dialog.addEventListener("mousedown", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(answer); });
    document.body.append(dialog);
    dialog.showModal();
    ready?.({ finish, submit, dialog });
  });
}

export function told(error) {
  const edits = error.since ?? [];
  const sentence = error.status === 409 ? "Somebody else changed this clustering meanwhile." : String(error.message);
  return [
    make("p", {}, make("bdi", {}, sentence)),
    edits.length ? make("ul", { class: "since" }, ...edits.map((edit) => make("li", {}, make("b", {}, make("bdi", {}, edit.author || "Someone")), ": ", make("bdi", {}, edit.said)))) : null,
    error.status === 409 ? make("p", {}, "The page shows the newest state now. What you chose is kept.") : null,
  ].filter(Boolean);
}

export const againAfter = (error) => (error.status === 409 ? "Try again all the same" : "Try again");

export function showConflict(error, again) {
  return ask({ title: "Changed meanwhile", className: "narrow", action: againAfter(error), body: told(error), take: again });
}

const fold = (text) => text.toLocaleLowerCase();
const MOST_CHOICES = 60;

export function chooseCluster(store, { title, canMake = false, except = [], first = [], use }) {
  let options = [];
  let at = 0;
  let finish;
  const left = new Set(except);
  const field = make("input", { type: "text", class: "field", role: "combobox", "aria-expanded": "true", "aria-controls": "choices", "aria-autocomplete": "list", "aria-label": "Find a cluster by its name", placeholder: canMake ? "Type a name: of a cluster, or of a new one" : "Type to find a cluster", autocomplete: "off", spellcheck: "false", dir: "auto" });
  const list = make("ul", { class: "choices", id: "choices", role: "listbox", "aria-label": "Clusters" });
  const none = make("p", { class: "quiet", role: "status" });
  const choose = () => options[at] && use(options[at].cluster ? { uid: options[at].cluster.uid } : { name: options[at].name });

  function fill() {
    const name = field.value.trim();
    const words = fold(name).split(/\s+/).filter(Boolean);
    const hits = store.clusters.filter((cluster) => !left.has(cluster.uid) && words.every((word) => fold(nameOf(cluster)).includes(word)));
    const lately = name ? [] : first.map((uid) => hits.find((cluster) => cluster.uid === uid)).filter(Boolean);
    const sorted = [...lately, ...hits.filter((cluster) => !lately.includes(cluster))];
    options = sorted.slice(0, MOST_CHOICES).map((cluster) => ({ cluster, isRecent: lately.includes(cluster) }));
    if (canMake && name && !hits.some((cluster) => fold(nameOf(cluster)) === fold(name))) options.push({ name });
    at = 0;
    list.replaceChildren(...options.map(choice));
    const more = hits.length - MOST_CHOICES;
    none.textContent = !options.length ? "No cluster has such a name." : more > 0 ? `and ${count(more)} more: type on` : "";
    mark();
  }

  function choice({ cluster, name, isRecent }, i) {
    const covers = cluster && make("span", { class: "covers", "aria-hidden": "true" }, ...cluster.medoids.slice(0, 3).map((row) => picture(row, { size: 96 })));
    return make("li", { role: "option", id: `choice-${i}`, onclick: () => { at = i; mark(); finish(choose); } },
      covers, cluster ? named(cluster) : make("span", { class: "named" }, make("i", { class: "plus", "aria-hidden": "true" }), make("bdi", {}, `New cluster: ${name}`)),
      isRecent ? make("span", { class: "recent" }, "lately") : null,
      cluster ? make("span", { class: "size" }, count(cluster.size)) : null);
  }

  function mark() {
    [...list.children].forEach((element, i) => element.setAttribute("aria-selected", String(i === at)));
    if (options.length) field.setAttribute("aria-activedescendant", `choice-${at}`);
    else field.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  field.addEventListener("input", fill);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6 }[event.key];
    if (!step || !options.length) return;
    event.preventDefault();
    at = Math.abs(step) === 1 ? (at + step + options.length) % options.length : Math.max(0, Math.min(options.length - 1, at + step));
    mark();
  });
  fill();
  return ask({
    title, className: "narrow", body: [field, list, none], take: choose,
    ready(dialog) { finish = dialog.finish; field.focus(); },
  });
}

// A failure to get suggestions is no reason to say anything: there are simply none.
export async function suggestions(store, uid, use) {
  const { names } = await api.get(api.of(store.name, "clusters", uid, "suggestions")).catch(() => ({ names: [] }));
  const own = store.cluster(uid)?.name;
  return names.filter((name) => name !== own).slice(0, 8)
    .map((name) => make("button", { type: "button", class: "chip", onclick: () => use(name) }, make("bdi", {}, name)));
}

export function askName({ title, label, value = "", action, optional = false, suggestFor = null, use }) {
  const field = make("input", { type: "text", class: "field", id: "name-field", autocomplete: "off", maxlength: 200, dir: "auto", required: !optional });
  field.value = value;
  const chips = make("div", { class: "chips", role: "group", "aria-label": "Suggested names" });
  return ask({
    title, action, className: "narrow",
    body: [make("label", { for: "name-field" }, label), field, chips],
    take: () => (field.value.trim() || optional ? use(field.value.trim()) : null),
    ready({ finish }) {
      field.focus();
      field.select();
      const take = (name) => { field.value = name; finish(() => use(name)); };
      if (suggestFor) suggestions(suggestFor.store, suggestFor.uid, take).then((found) => chips.replaceChildren(...found));
    },
  });
}
