// Search: by words where the features know words, by an image of one's own, or for more like some rows.
//
// What is searched for is in the address (?text=…, ?row=1,2,3), so that Back and links work; a file
// is not, and is kept until another search or another clustering.

import * as api from "./api.js";
import { count, fileName, heading, make, message, named, nameOf, plural } from "./dom.js";
import { picture } from "./pictures.js";
import { imageTiles } from "./tiles.js";

const STEPS = [60, 240, 1000];
const MOST_BYTES = 32 * 1024 * 1024;
const FEW = 8;
const kept = { clustering: null, file: null };

export async function show(root, context) {
  const { store, go, to, signal, params: { query } } = context;
  const able = store.herd.searchable;
  if (kept.clustering !== store.name) Object.assign(kept, { clustering: store.name, file: null });
  const asked = wanted(query);
  if (asked?.text || asked?.rows) kept.file = null;

  const found = make("div", { class: "found" });
  const asks = make("div", { class: "asks" });
  const head = make("div", { class: "found-head" });
  // There from the start: what changes in it is read out.
  const facts = make("p", { class: "facts-line", role: "status" });
  root.append(make("div", { class: "view-head" }, make("div", {}, heading("Search"), make("p", { class: "facts-line" }, "What is most alike comes first."))), asks, head, facts, found);
  if (able.text) asks.append(words());
  if (able.image) asks.append(upload());
  if (!able.text && !asked && !kept.file) asks.append(noWords());

  let turn = 0;
  let tiles = null;
  let hits = [];
  let step = 0;
  let preview = null;

  function words() {
    const field = make("input", { type: "search", class: "field", id: "search-words", maxlength: 1000, autocomplete: "off", dir: "auto", "aria-label": "What to look for, in words", placeholder: store.herd.noun === "text" ? "Words to look for" : "What is to be seen, such as: a red shoe" });
    field.value = asked?.text ?? "";
    return make("form", { class: "ask-words", role: "search", onsubmit: (event) => {
      event.preventDefault();
      if (field.value.trim()) start({ text: field.value.trim() });
    } }, field, make("button", { type: "submit", class: "strong" }, "Search"));
  }

  // Asked for a second time, the address is the same and no view would be made anew.
  function start(what) {
    const address = to("search", what);
    if (address === location.hash) run().catch(context.notices.problem);
    else go(address);
  }

  function upload() {
    const input = make("input", { type: "file", id: "search-file", class: "hidden", accept: "image/*,.heic,.heif,.avif,.tif,.tiff", tabindex: -1, "aria-hidden": "true" });
    input.addEventListener("change", () => { if (input.files[0]) take(input.files[0]); input.value = ""; });
    return make("div", { class: "drop", id: "search-drop" }, input,
      make("button", { type: "button", class: "plain", onclick: () => input.click() }, "Choose an image …"),
      make("p", {}, "or drop one anywhere on this page, or paste it. It is not kept."));
  }

  function noWords() {
    return make("p", { class: "why-not" }, store.herd.noun === "image"
      ? ["Words cannot be searched for yet: the features in use know pictures only. Embed once with a model of images and texts, then load this page again: ",
        make("code", {}, ...["imageherd embed PHOTOS ", `--herd ${store.herd.name} `, "--backbone clip-vit-b32"].map((part) => make("span", {}, part)))]
      : "Words cannot be searched for: the features in use are not made of words.");
  }

  function take(file) {
    if (file.size > MOST_BYTES) {
      context.notices.problem(`${file.name} is larger than 32 MB; give a smaller image.`);
      return;
    }
    kept.file = file;
    step = 0;
    asks.querySelector(".why-not")?.remove();
    if (asked) go(to("search"));
    else run().catch(context.notices.problem);
  }

  function what() {
    const { rows, text } = asked ?? {};
    if (rows) {
      return [make("span", { class: "asked" }, ...rows.slice(0, FEW).map((row) => picture(row, { size: 96 }))),
        make("h2", {}, rows.length === 1 ? "More like this" : `More like these ${store.things(rows.length)}`)];
    }
    if (text) return [make("h2", {}, "Most like “", make("bdi", {}, text), "”")];
    release();
    preview = URL.createObjectURL(kept.file);
    const image = make("img", { src: preview, alt: "" });
    image.addEventListener("error", () => image.remove());
    return [make("span", { class: "asked" }, image), make("h2", {}, "Most like ", make("bdi", {}, kept.file.name))];
  }

  function release() {
    if (preview) URL.revokeObjectURL(preview);
    preview = null;
  }

  function ask(limit) {
    const path = api.of(store.name, "search");
    if (!asked) {
      const form = new FormData();
      form.append("image", kept.file, kept.file.name);
      return api.post(`${path}?limit=${limit}`, form, { signal });
    }
    const about = asked.text ? [["text", asked.text]] : asked.rows.map((row) => ["row", row]);
    return api.get(`${path}?${new URLSearchParams([...about, ["limit", limit]])}`, { signal });
  }

  async function run() {
    const mine = ++turn;
    if (!asked && !kept.file) { empty(); return; }
    root.setAttribute("aria-busy", "true");
    const late = setTimeout(() => { if (!tiles) found.replaceChildren(message(asked?.rows ? "Searching …" : "Searching … The first search loads the model.")); }, 250);
    try {
      const answer = await ask(STEPS[step]);
      if (mine === turn) await tell(answer);
    } catch (error) {
      if (mine !== turn || error.name === "AbortError") return;
      end();
      head.replaceChildren();
      facts.textContent = "";
      found.replaceChildren(make("p", { class: "waiting", role: "alert" }, make("bdi", {}, error.message)));
    } finally {
      clearTimeout(late);
      if (mine === turn) root.removeAttribute("aria-busy");
    }
  }

  function empty() {
    found.replaceChildren(message("Or select something in any other view and choose More like this."));
  }

  const more = make("button", { type: "button", class: "plain", id: "search-more", hidden: true, onclick: () => { step += 1; run().catch(context.notices.problem); } }, "Show more");
  const where = make("div", { class: "where", role: "group", "aria-label": "In which clusters" });

  async function tell(answer) {
    hits = answer.hits;
    head.replaceChildren(...what());
    facts.textContent = hits.length ? `The ${store.things(hits.length)} most alike, by ${madeBy(answer.by)}.${answer.recall === null ? "" : ` Found through an index, which finds ${Math.round(100 * answer.recall)} % of the nearest.`}` : "";
    where.replaceChildren(...clusters());
    more.hidden = step + 1 >= STEPS.length || hits.length < STEPS[step];
    if (!hits.length) {
      end();
      found.replaceChildren(message(`No ${store.herd.noun} is like it.`));
      return;
    }
    if (tiles) { await tiles.reload(hits.length); return; }
    tiles = imageTiles({
      context, label: "What was found, most alike first", n: hits.length, remark: (hit) => `${nameOf(clusterOf(hit))} · ${hit.similarity.toFixed(2)}`,
      page: async (offset, limit) => hits.slice(offset, offset + limit),
    });
    found.replaceChildren(where, tiles.element, more);
  }

  // A search often ends in "these belong there": where they are now is one line above them.
  function clusters() {
    const sizes = new Map();
    for (const { uid } of hits) sizes.set(uid, (sizes.get(uid) ?? 0) + 1);
    const most = [...sizes].sort((a, b) => b[1] - a[1]).slice(0, 6);
    const rest = sizes.size - most.length;
    return [...most.map(([uid, n]) => make("a", { class: "chip", href: to("cluster", { uid }) }, named(store.cluster(uid) ?? clusterOf(hits.find((hit) => hit.uid === uid))), make("span", { class: "size" }, count(n)))),
      rest ? make("span", { class: "quiet" }, `and ${plural(rest, "other cluster", "other clusters")}`) : null].filter(Boolean);
  }

  function end() {
    tiles?.stop();
    tiles = null;
  }

  const carries = (event) => able.image && event.dataTransfer?.types.includes("Files");
  const listeners = {
    dragover(event) { if (carries(event)) { event.preventDefault(); root.classList.add("dropping"); } },
    dragleave(event) { if (!event.relatedTarget) root.classList.remove("dropping"); },
    drop(event) {
      root.classList.remove("dropping");
      if (!carries(event)) return;
      event.preventDefault();
      if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    },
    paste(event) { if (able.image && event.clipboardData?.files[0]) { event.preventDefault(); take(event.clipboardData.files[0]); } },
  };
  for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
  const off = store.subscribe(() => { if (tiles) run().catch(context.notices.problem); });

  await run();
  if (!asked && !kept.file) root.querySelector("#search-words")?.focus({ preventScroll: true });
  return () => {
    off();
    end();
    release();
    for (const [name, listener] of Object.entries(listeners)) document.removeEventListener(name, listener);
  };
}

// A backbone's name may be a whole path; vectors and texts have none.
function madeBy(name) {
  if (name.startsWith("vectors:")) return "the vectors that were given";
  return name.startsWith("tfidf:") ? "their words" : fileName(name);
}

const clusterOf = ({ uid, cluster }) => ({ uid, name: cluster });

function wanted(query) {
  const text = query.get("text")?.trim();
  if (text) return { text };
  const rows = (query.get("row") ?? "").split(",").filter((part) => /^\d+$/.test(part)).map(Number);
  return rows.length ? { rows } : null;
}
