// The row of buttons above the map, and the sentences below it that say which keys do what.
import { count, make } from "../dom.js";

export function controls({ colours, problem, zoom, all, lasso, selectMarked }) {
  const button = (label, onclick, more = {}) => make("button", { type: "button", class: "plain", onclick, ...more }, label);
  const by = make("select", { id: "map-by" },
    make("option", { value: "cluster" }, "cluster"), make("option", { value: "confidence" }, "how sure its place is"));
  by.addEventListener("change", () => colours.by(by.value).catch(problem));
  const lassoButton = button("Lasso", () => {
    const wanted = lassoButton.getAttribute("aria-pressed") !== "true";
    lassoButton.setAttribute("aria-pressed", String(wanted));
    lasso(wanted);
  }, { "aria-pressed": "false", title: "Draw around images to select them; or hold Shift and drag" });
  const markedButton = button("", selectMarked, { hidden: true });
  colours.onChange(() => {
    const size = colours.markedSize();
    markedButton.hidden = size === 0;
    markedButton.textContent = `Select the ${count(size)} highlighted`;
  });
  const element = make("div", { class: "map-controls controls" },
    make("label", { class: "map-by" }, make("span", {}, "Colour by"), by), lassoButton, markedButton);
  const zoomers = make("div", { class: "map-zoom", role: "group", "aria-label": "Zoom" },
    button("+", () => zoom(1.6), { "aria-label": "Zoom in" }), button("−", () => zoom(1 / 1.6), { "aria-label": "Zoom out" }),
    button("⤢", all, { "aria-label": "Show the whole map", title: "Show the whole map" }));
  const help = make("p", { class: "map-help", id: "map-help" },
    "Drag to move, scroll or pinch to zoom, click an image to select it, double-click to open its cluster; hold Shift and drag to draw around many. ",
    "By keyboard: arrows move, + and − zoom, 0 shows all, x selects the image at the cross, b opens a box around it that Shift and arrows resize and Enter selects.");
  const offer = (labels) => by.append(...labels.map((name) => make("option", { value: `=${name}` }, name)));
  return { element, zoomers, help, offer };
}
