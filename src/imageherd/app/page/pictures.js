// What is shown of a row: its picture or, where the herd holds texts or vectors, its words.
//
//   begin(store)      before anything is shown: what the herd holds
//   picture(row, {size, alt, item})   an <img>, or words. size: about how wide it is shown; alt "" is right where
//                     a caption beside it says the name; item: what is known of the row already
//   pictureUrl(row, size), fullUrl(row), words(text, path)
//   forget(element)   stops loading pictures inside an element that has left the page

import * as api from "./api.js";
import { make } from "./dom.js";

const SIZES = [96, 192, 384, 768];
const MOST = 200;
let store = null;

export function begin(known) {
  store = known;
  document.documentElement.dataset.shows = store.herd.noun === "image" ? "pictures" : "words";
}

// A screen with two pixels to the point wants the next size up.
function fitting(size) {
  const wanted = size * Math.min(devicePixelRatio || 1, 2);
  return SIZES.find((width) => width >= wanted) ?? SIZES[SIZES.length - 1];
}

const mark = () => encodeURIComponent(store.herd.v);
export const pictureUrl = (row, size = 192) => `/api/pictures/${row}?size=${fitting(size)}&v=${mark()}`;
export const fullUrl = (row) => `/api/pictures/${row}/full?v=${mark()}`;

export function words(text, path = "") {
  return make("span", { class: "words", title: path || null }, make("bdi", {}, text));
}

export function picture(row, { size = 192, alt = "", item = null } = {}) {
  if (item?.text !== undefined && item?.text !== null) return words(item.text, item.name);
  if (store.herd.noun !== "image") return wordsLater(row);
  const image = make("img", { alt, decoding: "async", draggable: "false", title: item?.name ?? null, src: pictureUrl(row, size) });
  image.addEventListener("error", () => {
    if (!image.getAttribute("src")) return;
    const why = "no picture to show";
    image.replaceWith(make("span", { class: "missing", role: "img", "aria-label": alt ? `${alt}: ${why}` : why, title: item?.name ?? why }));
  });
  return image;
}

export function forget(element) {
  for (const image of element.querySelectorAll("img")) if (!image.complete) image.removeAttribute("src");
}

// Rows whose words are wanted are collected for a moment and asked for together.
const wanted = new Map();
let collecting = 0;

function wordsLater(row) {
  const place = words("");
  if (!wanted.has(row)) wanted.set(row, []);
  wanted.get(row).push(place);
  collecting ||= setTimeout(fetchWords, 20);
  return place;
}

async function fetchWords() {
  collecting = 0;
  const places = new Map(wanted);
  wanted.clear();
  const rows = [...places.keys()];
  for (let from = 0; from < rows.length; from += MOST) {
    const some = rows.slice(from, from + MOST);
    // A text that cannot be had leaves an empty place, as a picture would.
    const { items } = await api.get(`${api.of(store.name, "items")}?rows=${some.join(",")}`).catch(() => ({ items: [] }));
    for (const item of items) {
      for (const place of places.get(item.row)) {
        place.firstChild.textContent = item.text ?? item.name;
        place.title = item.name;
      }
    }
  }
}
