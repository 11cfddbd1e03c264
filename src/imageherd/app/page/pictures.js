// What is shown of a row: its picture, or its words where the herd holds texts, or its number.
//
//   picture(row, {size, alt, item})   an <img> (size 96, 192, 384 or 768 device-independent
//                pixels wide), or words for a text; alt "" is right where a caption beside it says the name
//   pictureUrl(row, size), fullUrl(row)
//   keyed(v)          the herd's mark, which the addresses of pictures carry: browsers keep pictures long
//   forget(element)   stops loading pictures inside an element that has left the page

import { make } from "./dom.js";

const SIZES = [96, 192, 384, 768];

// A screen with two pixels to the point wants the next size up.
function fitting(size) {
  const wanted = size * Math.min(devicePixelRatio || 1, 2);
  return SIZES.find((width) => width >= wanted) ?? SIZES[SIZES.length - 1];
}

let mark = "";
export function keyed(v) { mark = encodeURIComponent(v); }

export const pictureUrl = (row, size = 192) => `/api/pictures/${row}?size=${fitting(size)}&v=${mark}`;
export const fullUrl = (row) => `/api/pictures/${row}/full?v=${mark}`;

export function words(text, path = "") {
  return make("span", { class: "words", title: path || null }, make("bdi", {}, text));
}

export function picture(row, { size = 192, alt = "", item = null } = {}) {
  if (item?.text !== undefined && item?.text !== null) return words(item.text, item.name);
  const image = make("img", { alt, decoding: "async", draggable: "false", title: item?.name ?? null, src: pictureUrl(row, size) });
  image.addEventListener("error", () => {
    if (!image.getAttribute("src")) return;
    const why = "no picture to show";
    image.replaceWith(make("span", { class: "missing", role: "img", "aria-label": alt ? `${alt}: ${why}` : why, title: item?.name ?? why }));
  }, { once: true });
  return image;
}

export function forget(element) {
  for (const image of element.querySelectorAll("img")) if (!image.complete) image.removeAttribute("src");
}
