// What a person means by "the button Rename": the visible element of a role with that name.
// arguments: role, name (a text, or {regex}), inside (an element or null) -> elements
const [role, name, inside] = arguments;
const ROLES = {
  button: "button, [role=button], summary, input[type=submit]",
  link: "a[href]",
  textbox: "input:not([type]), input[type=text], input[type=search], textarea, [role=combobox]",
  checkbox: "input[type=checkbox], [role=checkbox]",
  choice: "select",
  option: "[role=option], [role=radio], input[type=radio]",
  heading: "h1, h2, h3, h4, [role=heading]",
  file: "input[type=file]",
  listbox: "[role=listbox]",
  dialog: "dialog[open], [role=dialog]",
};
const clean = (text) => (text ?? "").replace(/\s+/g, " ").trim();
// Marks that only the eye is to see are no part of a name.
const said = (element) => {
  if (!element) return "";
  const copy = element.cloneNode(true);
  for (const mute of copy.querySelectorAll("[aria-hidden=true], kbd")) mute.remove();
  return clean(copy.textContent);
};
const named = (element) => {
  const by = element.getAttribute("aria-labelledby");
  if (by) return clean(by.split(" ").map((id) => said(document.getElementById(id))).join(" "));
  const own = element.matches("select, input, textarea") ? "" : said(element);
  const given = element.getAttribute("aria-label") || element.alt || said(element.labels?.[0]);
  return clean(given || own || element.title || element.placeholder);
};
const modal = [...document.querySelectorAll("dialog:modal")].at(-1);
const root = inside ?? modal ?? document;
const fits = name?.regex ? (text) => new RegExp(name.regex).test(text) : (text) => text === name;
const found = [...root.querySelectorAll(ROLES[role])];
if (role === "dialog" && modal) found.push(modal);
const seen = role === "file" ? found : found.filter((e) => e.checkVisibility({ visibilityProperty: true }));
return seen.filter((element) => name === null || fits(named(element)));
