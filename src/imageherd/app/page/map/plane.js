// Where the map is looked at from: map units are those of the points, [-1, 1], y upwards; the
// screen's are CSS pixels from the top left corner of the canvas.
const MARGIN = 28;
const CLOSEST = 400;

export function plane(bounds) {
  const middle = { x: (bounds.left + bounds.right) / 2, y: (bounds.bottom + bounds.top) / 2 };
  const half = {
    x: Math.max(bounds.right - middle.x, 1e-6),
    y: Math.max(bounds.top - middle.y, 1e-6),
  };
  const view = { x: middle.x, y: middle.y, zoom: 1, width: 1, height: 1 };
  const inside = (value, centre, reach) => Math.max(centre - reach, Math.min(centre + reach, value));

  // Pixels a map unit takes: at zoom 1 all points fit in.
  function scale() {
    const across = (view.width - 2 * MARGIN) / (2 * half.x);
    const upwards = (view.height - 2 * MARGIN) / (2 * half.y);
    return view.zoom * Math.max(1, Math.min(across, upwards));
  }
  const toScreen = (x, y) => [
    (x - view.x) * scale() + view.width / 2,
    (view.y - y) * scale() + view.height / 2,
  ];
  const toMap = (sx, sy) => [
    (sx - view.width / 2) / scale() + view.x,
    view.y - (sy - view.height / 2) / scale(),
  ];

  function moveBy(dx, dy) {
    view.x = inside(view.x - dx / scale(), middle.x, half.x);
    view.y = inside(view.y + dy / scale(), middle.y, half.y);
  }
  // What lies under the given place stays there.
  function zoomBy(factor, sx = view.width / 2, sy = view.height / 2) {
    const [x, y] = toMap(sx, sy);
    view.zoom = Math.max(1, Math.min(CLOSEST, view.zoom * factor));
    const [nx, ny] = toScreen(x, y);
    moveBy(sx - nx, sy - ny);
  }
  function showAll() {
    Object.assign(view, { x: middle.x, y: middle.y, zoom: 1 });
  }
  function resize(width, height) {
    Object.assign(view, { width, height });
  }
  return { view, scale, toScreen, toMap, moveBy, zoomBy, showAll, resize };
}

// Radius of a point in CSS pixels: small where there are many or little room, larger as one comes
// closer.
export function radius(n, { zoom, width, height }) {
  const room = Math.max(0.55, Math.min(1, Math.min(width, height) / 520));
  return Math.min(Math.max((100 / Math.sqrt(n)) * room, 0.8), 5.5 * room) * Math.min(Math.sqrt(zoom), 4);
}
