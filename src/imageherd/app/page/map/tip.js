// The picture and name of the point under the cursor.
import { make, nameOf } from "../dom.js";
import { picture } from "../pictures.js";

const AFTER = 60;

export function tip(root, { store, api, plane }) {
  let shown = -1;
  let timer = 0;
  let asking = null;

  function hide() {
    shown = -1;
    clearTimeout(timer);
    asking?.abort();
    root.hidden = true;
  }
  function place(sx, sy) {
    const { width, height } = plane.view;
    const left = sx + 18 + root.offsetWidth > width ? sx - 18 - root.offsetWidth : sx + 18;
    root.style.left = `${Math.max(4, Math.min(left, width - root.offsetWidth - 4))}px`;
    root.style.top = `${Math.max(4, Math.min(sy - 20, height - root.offsetHeight - 8))}px`;
  }
  async function fill(row, cluster, sx, sy) {
    asking = new AbortController();
    const { signal } = asking;
    try {
      const item = await api.get(api.of(store.name, "items", row), { signal });
      if (signal.aborted) return;
      const shownAs = picture(row, { size: 192, alt: "", item });
      shownAs.addEventListener("load", () => place(sx, sy));
      root.replaceChildren(shownAs, make("p", { class: "map-tip-name" }, make("i", { class: "dot" }), make("bdi", {}, nameOf(cluster))),
        make("p", { class: "map-tip-path" }, make("bdi", {}, item.name)));
      root.hidden = false;
      place(sx, sy);
    } catch (error) {
      if (error.name !== "AbortError") hide();
    }
  }
  return {
    hide,
    // row: of the items table; cluster: where the point is now.
    show(row, cluster, sx, sy) {
      if (row === shown) return;
      hide();
      shown = row;
      root.style.setProperty("--colour", `light-dark(${cluster.colour ?? "#777"}, ${cluster.colour_dark ?? cluster.colour ?? "#999"})`);
      timer = setTimeout(() => fill(row, cluster, sx, sy), AFTER);
    },
  };
}
