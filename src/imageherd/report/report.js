// The contents, what every part of the page uses, the header and the table of unreadable files.
const report = JSON.parse(document.getElementById("contents").textContent);
document.getElementById("contents").remove();
const clusters = report.clusters;
const NOWHERE = -1;
const NO_NUMBER = 0xffffffff;
const root = document.documentElement;
const darkScheme = matchMedia("(prefers-color-scheme: dark)");

const byId = (id) => document.getElementById(id);

// Text goes in as text only; nothing in this file ever parses markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const count = (n) => n.toLocaleString("en");
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
const things = (n) => plural(n, ...report.noun);
// Images vote on names; texts are named by the words that weigh most in them.
const naming = report.noun[0] === "text" ?
  { of: "words", got: "is", or: "then", gave: (n) => (n === 1 ? "has" : "have") } :
  { of: "votes", got: "got", or: "or", gave: () => "voted for" };
// What can be shown of an item: its picture or, where it has none, words.
const isShown = (number) => number in report.thumbnails || number in report.texts;
const percent = (share) => `${Math.round(100 * share)} %`;
const nameOf = (cluster) => cluster.name || `Cluster ${cluster.uid}`;

function isDark() {
  return root.dataset.theme === "auto" ? darkScheme.matches : root.dataset.theme === "dark";
}

// A union has the colour of its largest part.
function colourOf(node) {
  if (nodes[node].uid === NOWHERE) return isDark() ? "#8a8d93" : "#8b8d92";
  return report.palette[nodes[node].parts[0] % report.palette.length][isDark() ? 1 : 0];
}

const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

// A picture by its number; without one, an empty tile that says why.
function picture(number, alt) {
  const path = report.paths[number];
  const jpeg = report.thumbnails[number];
  const words = report.texts[number];
  if (!jpeg && words !== undefined) return make("span", { class: "words", title: `${path}\n${words}` }, make("bdi", {}, words));
  if (!jpeg) {
    const why = "picture not found when the report was written";
    return make("span", { class: "missing", role: "img", title: `${path}\n${why}`, "aria-label": `${alt}: ${why}` });
  }
  return make("img", { src: `data:image/jpeg;base64,${jpeg}`, alt, title: path, decoding: "sync", draggable: "false" });
}

function showHeader() {
  for (const [label, n] of report.counts) {
    byId("counts").append(make("div", { class: n ? "" : "none" }, make("dt", {}, label.replaceAll("_", " ")), make("dd", {}, count(n))));
  }
  const list = byId("settings").querySelector("dl");
  for (const [label, value] of report.settings) {
    list.append(make("div", {}, make("dt", {}, label), make("dd", {}, make("bdi", {}, value))));
  }
  byId("settings").hidden = report.settings.length === 0;
  byId("made").textContent = `Written by imageherd, ${report.created}.`;
}

function showUnreadable() {
  const section = byId("unreadable");
  byId("to-unreadable").hidden = report.n_unreadable === 0;
  if (report.n_unreadable === 0) return;
  section.hidden = false;
  byId("unreadable-title").textContent = plural(report.n_unreadable, `unreadable ${report.noun[0] === "image" ? "file" : report.noun[0]}`, `unreadable ${report.noun[0] === "image" ? "files" : report.noun[1]}`);
  const details = section.querySelector("details");
  const body = section.querySelector("tbody");
  const fill = () => {
    if (!details.open || body.childElementCount) return;
    for (const [path, reason] of report.unreadable) {
      body.append(make("tr", {}, make("td", { title: path }, make("bdi", {}, path)), make("td", {}, make("bdi", {}, reason))));
    }
    const more = report.n_unreadable - report.unreadable.length;
    if (more) body.append(make("tr", {}, make("td", { colspan: 2 }, `and ${count(more)} more: see imageherd export`)));
  };
  details.addEventListener("toggle", fill);
  byId("to-unreadable").addEventListener("click", () => { details.open = true; });
}

function startTheme() {
  const paint = () => document.dispatchEvent(new Event("themechange"));
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("imageherd-theme", root.dataset.theme);
    } catch { /* A browser that forgets is no reason not to switch. */ }
    paint();
  });
  darkScheme.addEventListener("change", paint);
}

root.dataset.shows = Object.keys(report.thumbnails).length ? "pictures" : "words";
root.dataset.noun = report.noun[0];
showHeader();
showUnreadable();
startTheme();
