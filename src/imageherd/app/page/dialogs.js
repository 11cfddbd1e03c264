// Questions to a person. Each gives a promise of the answer; null when the dialog was closed.
//
//   ask({title, body, className, onSubmit, action, extra})  the frame: a form in a modal <dialog>
//   chooseCluster(store, {title, canMake, except})  → {uid} or, with canMake, {name} of one to be made
//   askName({title, label, value, action, optional, suggestFor: {store, uid}})  → string
//   askMerge(store, uids)                           → uids, the one that stays first
//   askSplit(store, uid)                            → parts, lists of rows
//   showConflict(error)                             → true: try again all the same

import * as api from "./api.js";
import { count, make, message, named, nameOf, percent } from "./dom.js";
import { picture } from "./pictures.js";

// The browser gives the focus back to whatever had it, when a modal dialog closes.
export function ask({ title, body, action, className = "", take, ready }) {
  return new Promise((resolve) => {
    let answer = null;
    const submit = action && make("button", { type: "submit", class: "strong" }, action);
    const form = make("form", { method: "dialog" },
      make("div", { class: "dialog-head" }, make("h2", { id: "dialog-title" }, make("bdi", {}, title)),
        make("button", { type: "button", class: "round close", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
      make("div", { class: "dialog-body" }, body),
      action && make("div", { class: "dialog-foot" }, make("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Cancel"), submit));
    const dialog = make("dialog", { class: className, "aria-labelledby": "dialog-title" }, form);
    const finish = (value) => { answer = value; dialog.close(); };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const value = take?.();
      if (value !== undefined && value !== null) finish(value);
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { dialog.remove(); resolve(answer); });
    document.body.append(dialog);
    dialog.showModal();
    ready?.({ finish, submit, dialog });
  });
}

const fold = (text) => text.toLocaleLowerCase();

export function chooseCluster(store, { title, canMake = false, except = [] }) {
  let options = [];
  let at = 0;
  let finish;
  const field = make("input", { type: "text", class: "field", role: "combobox", "aria-expanded": "true", "aria-controls": "choices", "aria-label": "Find a cluster by its name", placeholder: "Type to find a cluster", autocomplete: "off", spellcheck: "false" });
  const list = make("ul", { class: "choices", id: "choices", role: "listbox", "aria-label": "Clusters" });
  const left = new Set(except);

  function fill() {
    const words = fold(field.value.trim()).split(/\s+/).filter(Boolean);
    const hits = store.clusters.filter((cluster) => !left.has(cluster.uid) && words.every((word) => fold(nameOf(cluster)).includes(word)));
    options = hits.slice(0, 60).map((cluster) => ({ uid: cluster.uid, cluster }));
    const name = field.value.trim();
    if (canMake && name && !hits.some((cluster) => fold(nameOf(cluster)) === fold(name))) options.push({ name });
    at = 0;
    list.replaceChildren(...options.map(choice));
    if (!options.length) list.append(make("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "waiting" }, "No cluster has such a name."));
    mark();
  }

  function choice(option, i) {
    const { cluster, name } = option;
    return make("li", { role: "option", id: `choice-${i}`, onclick: () => finish(cluster ? { uid: cluster.uid } : { name }) },
      cluster ? make("span", { class: "covers" }, ...cluster.medoids.slice(0, 3).map((row) => picture(row, { size: 96 }))) : null,
      cluster ? named(cluster) : make("span", { class: "named" }, "New cluster: ", make("bdi", {}, name)),
      cluster ? make("span", { class: "size" }, count(cluster.size)) : null);
  }

  function mark() {
    [...list.children].forEach((element, i) => element.setAttribute("aria-selected", String(i === at && options.length > 0)));
    if (options.length) field.setAttribute("aria-activedescendant", `choice-${at}`);
    else field.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  field.addEventListener("input", fill);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !options.length) return;
    event.preventDefault();
    at = (at + step + options.length) % options.length;
    mark();
  });
  fill();
  return ask({
    title, className: "narrow", body: [field, list],
    take: () => options[at] && (options[at].cluster ? { uid: options[at].uid } : { name: options[at].name }),
    ready(dialog) { finish = dialog.finish; field.focus(); },
  });
}

// Names that the pictures themselves voted for; a failure to get them is no reason to say anything.
export async function suggestions(store, uid, use) {
  const { names } = await api.get(api.of(store.name, "clusters", uid, "suggestions")).catch(() => ({ names: [] }));
  return names.map((name) => make("button", { type: "button", class: "chip", onclick: () => use(name) }, make("bdi", {}, name)));
}

export function askName({ title, label, value = "", action, optional = false, suggestFor = null }) {
  const field = make("input", { type: "text", class: "field", id: "name-field", autocomplete: "off", maxlength: 200, dir: "auto" });
  field.value = value;
  const chips = make("div", { class: "chips", role: "group", "aria-label": "Suggested names" });
  return ask({
    title, action, className: "narrow",
    body: [make("label", { for: "name-field" }, label), field, chips],
    take: () => (field.value.trim() || optional ? field.value.trim() : null),
    ready({ finish }) {
      field.focus();
      field.select();
      if (suggestFor) suggestions(suggestFor.store, suggestFor.uid, finish).then((found) => chips.replaceChildren(...found));
    },
  });
}

export async function askMerge(store, uids) {
  if (uids.length === 1) {
    const other = await chooseCluster(store, { title: `Merge ${nameOf(store.cluster(uids[0]))} with …`, except: uids });
    if (!other) return null;
    uids = [...uids, other.uid];
  }
  const clusters = uids.map((uid) => store.cluster(uid)).filter(Boolean).sort((a, b) => b.size - a.size);
  const choices = clusters.map((cluster, i) => make("label", { class: "merging" },
    make("input", { type: "radio", name: "stays", value: cluster.uid, checked: i === 0 }),
    make("span", { class: "covers" }, ...cluster.medoids.slice(0, 4).map((row) => picture(row, { size: 96 }))),
    named(cluster), make("span", { class: "size" }, store.things(cluster.size))));
  const fields = make("fieldset", {}, make("legend", {}, "Keep the name of"), ...choices);
  return ask({
    title: `Merge ${clusters.length} clusters`, className: "narrow", body: fields,
    action: `Merge into one of ${store.things(clusters.reduce((sum, { size }) => sum + size, 0))}`,
    take: () => {
      const kept = Number(fields.querySelector(":checked").value);
      return [kept, ...clusters.map(({ uid }) => uid).filter((uid) => uid !== kept)];
    },
  });
}

export function askSplit(store, uid) {
  const cluster = store.cluster(uid);
  let parts = null;
  let submit;
  let asked = 0;
  const into = make("select", { class: "field small", id: "split-into" },
    make("option", { value: "2" }, "two"), make("option", { value: "auto" }, "as many as it seems to hold"),
    ...Array.from({ length: 18 }, (_, i) => make("option", { value: i + 3 }, count(i + 3))));
  const preview = make("div", { class: "split", "aria-live": "polite", "aria-busy": "true" });

  async function look() {
    const mine = ++asked;
    parts = null;
    if (submit) submit.disabled = true;
    preview.setAttribute("aria-busy", "true");
    preview.replaceChildren(message("Looking how it falls apart …"));
    try {
      const answer = await api.get(`${api.of(store.name, "clusters", uid, "split")}?n=${into.value}`);
      if (mine !== asked) return;
      parts = answer.parts.map(({ rows }) => rows);
      preview.replaceChildren(...(parts.length > 1 ? answer.parts.map(part) : [message("It does not fall apart: this is one group.")]));
      if (submit) submit.disabled = parts.length < 2;
    } catch (error) {
      if (mine === asked) preview.replaceChildren(message(error.message));
    }
    preview.setAttribute("aria-busy", "false");
  }

  const part = ({ size, medoids, name }, i) => make("section", { class: "part" },
    make("h3", {}, make("bdi", {}, name || `Part ${i + 1}`), make("span", { class: "size" }, `${store.things(size)} · ${percent(size / cluster.size)}`)),
    make("div", { class: "part-pictures" }, ...medoids.slice(0, 6).map((row) => picture(row, { size: 192 }))));

  into.addEventListener("change", look);
  return ask({
    title: `Split ${nameOf(cluster)}`, action: "Split it so", className: "wide",
    body: [make("p", { class: "line" }, make("label", { for: "split-into" }, "Into"), into), preview],
    take: () => parts,
    ready(dialog) { submit = dialog.submit; submit.disabled = true; into.focus(); look(); },
  });
}

export function showConflict(error) {
  const edits = error.since.map((edit) => make("li", {}, make("b", {}, make("bdi", {}, edit.author)), ": ", make("bdi", {}, edit.said)));
  return ask({
    title: "Changed meanwhile", className: "narrow", action: "Try again all the same",
    body: [make("p", {}, error.message), edits.length ? make("ul", { class: "since" }, ...edits) : null,
      make("p", { class: "quiet" }, "The page shows the newest state now. What you had selected is still selected.")],
    take: () => true,
  }).then(Boolean);
}
