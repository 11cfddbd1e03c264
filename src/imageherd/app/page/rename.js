// Renaming a cluster where its name stands: a field in place of the heading, names to pick from below.
//
//   renameInPlace({holder, title, store, uid, actions})   holder: what the form is put into, title: what it hides

import { againAfter, suggestions, told } from "./dialogs.js";
import { make } from "./dom.js";

export function renameInPlace({ holder, title, store, uid, actions }) {
  const submit = actions.sender();
  const cameFrom = document.activeElement;
  const was = store.cluster(uid).name;
  const field = make("input", { type: "text", class: "field big", "aria-label": "Name", id: "new-name", autocomplete: "off", maxlength: 200, dir: "auto", required: true });
  const chips = make("div", { class: "chips", role: "group", "aria-label": "Suggested names" });
  const wrong = make("div", { class: "dialog-problem", role: "alert" });
  const button = make("button", { type: "submit", class: "strong" }, "Rename");
  const form = make("form", { class: "renaming" },
    make("div", { class: "line" }, field, button,
      make("button", { type: "button", class: "plain", onclick: () => end() }, "Cancel")), chips, wrong);
  field.value = was;

  function end() {
    form.remove();
    title.classList.remove("hidden");
    cameFrom.focus({ preventScroll: true });
  }

  // What was typed stays in the field until the name has been taken.
  async function take(name) {
    if (form.ariaBusy === "true" || !name) return;
    if (name === was) { end(); return; }
    form.ariaBusy = "true";
    wrong.replaceChildren();
    try {
      await submit({ kind: "rename", uid, name });
      end();
    } catch (error) {
      wrong.replaceChildren(...told(error));
      button.textContent = againAfter(error);
      field.focus();
    } finally {
      form.ariaBusy = "false";
    }
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); take(field.value.trim()); });
  form.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); end(); } });
  title.classList.add("hidden");
  holder.prepend(form);
  field.focus();
  field.select();
  suggestions(store, uid, (name) => { field.value = name; take(name); }).then((found) => chips.replaceChildren(...found));
}
