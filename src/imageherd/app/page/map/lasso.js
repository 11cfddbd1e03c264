// Which points lie inside an outline that was drawn on the screen.

// outline: [x, y] pairs in CSS pixels. The outline is filled as a picture and each point looks up
// its pixel: what is inside is what was seen inside, and the time does not grow with the outline.
export function inside(outline, places, { view, scale }, isWanted) {
  const { width, height } = view;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.beginPath();
  outline.forEach(([x, y]) => context.lineTo(x, y));
  context.fill();
  const filled = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  const by = scale();
  const found = [];
  for (let i = 0; i < places.length / 2; i += 1) {
    const x = Math.floor((places[2 * i] - view.x) * by + width / 2);
    const y = Math.floor((view.y - places[2 * i + 1]) * by + height / 2);
    if (x < 0 || y < 0 || x >= width || y >= height || !filled[y * width + x]) continue;
    if (isWanted(i)) found.push(i);
  }
  return Uint32Array.from(found);
}

export const box = (left, top, right, bottom) => [[left, top], [right, top], [right, bottom], [left, bottom]];
