// Draws the points with WebGL2. A point has a place and a code; a code has a colour, a shape and a
// depth in a small texture, so that a new theme, a highlight or other colours cost no more than
// that texture, and an edit no more than the codes.
const WIDE = 256;
// Squares this small look like any other shape.
const SHAPED_FROM = 5;

const VERTEX = `#version 300 es
in vec2 place;
in uint code;
uniform vec2 scale, offset;
uniform float size;
uniform vec4 mark;
uniform sampler2D palette;
flat out vec4 colour;
flat out int shape;
void main() {
  vec4 entry = texelFetch(palette, ivec2(int(code) % ${WIDE}, int(code) / ${WIDE}), 0);
  int traits = int(entry.a * 255.0 + 0.5);
  shape = mark.a > 0.0 ? 0 : traits & 3;
  colour = mark.a > 0.0 ? mark : vec4(entry.rgb, 1.0);
  gl_Position = vec4(place * scale + offset, 1.0 - float(traits >> 2) / 32.0, 1.0);
  gl_PointSize = size;
}`;
const PLAIN = `#version 300 es
precision highp float;
flat in vec4 colour;
flat in int shape;
out vec4 seen;
void main() { seen = colour; }`;
// Circle, square, triangle and diamond; the last pixel of the edge is blended.
const SHAPED = `#version 300 es
precision highp float;
flat in vec4 colour;
flat in int shape;
uniform float size;
out vec4 seen;
void main() {
  vec2 at = gl_PointCoord * 2.0 - 1.0;
  float out_by = shape == 0 ? length(at)
    : shape == 1 ? max(abs(at.x), abs(at.y)) * 1.12
    : shape == 2 ? max(at.y * 1.2, abs(at.x) * 1.15 - at.y * 0.55 + 0.42)
    : abs(at.x) * 1.15 + abs(at.y);
  float cover = clamp((1.0 - out_by) * size * 0.5 + 0.5, 0.0, 1.0);
  if (cover <= 0.0) discard;
  seen = vec4(colour.rgb, colour.a * cover);
}`;

export function glPainter(canvas) {
  const gl = canvas.getContext("webgl2", {
    alpha: false, antialias: false, depth: true, preserveDrawingBuffer: true,
    powerPreference: "high-performance",
  });
  if (!gl) return null;
  const kept = { places: null, codes: null, palette: null, chosen: new Uint32Array(0) };
  let on = null;
  let fence = null;

  function program(fragment) {
    const made = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.bindAttribLocation(made, 0, "place");
    gl.bindAttribLocation(made, 1, "code");
    gl.linkProgram(made);
    const where = (name) => gl.getUniformLocation(made, name);
    return { made, scale: where("scale"), offset: where("offset"), size: where("size"), mark: where("mark") };
  }

  // After a lost context all of it is made anew from what is kept.
  function start() {
    on = {
      plain: program(PLAIN), shaped: program(SHAPED), places: gl.createBuffer(),
      codes: gl.createBuffer(), chosen: gl.createBuffer(), palette: gl.createTexture(),
    };
    fence = null;
    gl.bindTexture(gl.TEXTURE_2D, on.palette);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthFunc(gl.LEQUAL);
    Object.keys(put).forEach((name) => kept[name] && put[name](kept[name]));
  }

  const put = {
    places(values) {
      gl.bindBuffer(gl.ARRAY_BUFFER, on.places);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(0);
      gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    },
    codes(values) {
      gl.bindBuffer(gl.ARRAY_BUFFER, on.codes);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(1);
      gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_SHORT, 0, 0);
    },
    palette({ rgba }) {
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, WIDE, rgba.length / 4 / WIDE, 0, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
    },
    chosen(indices) {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, on.chosen);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.DYNAMIC_DRAW);
    },
  };

  function use(which, view, size, mark) {
    gl.useProgram(which.made);
    const [sx, sy] = [(2 * view.scale) / view.width, (2 * view.scale) / view.height];
    gl.uniform2f(which.scale, sx, sy);
    gl.uniform2f(which.offset, -view.x * sx, -view.y * sy);
    gl.uniform1f(which.size, size);
    gl.uniform4fv(which.mark, mark);
  }

  // view: x, y, scale, width, height, in CSS pixels; size: of a point; ratio: pixels a CSS pixel.
  function paint(view, size, ratio, from, to, marked) {
    if (!on || !kept.codes || !kept.palette) return;
    const { ground, ink, layered } = kept.palette;
    gl.viewport(0, 0, canvas.width, canvas.height);
    if (from === 0) {
      gl.clearColor(...ground, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    }
    const shaped = size * ratio >= SHAPED_FROM;
    (shaped ? gl.enable : gl.disable).call(gl, gl.BLEND);
    (layered ? gl.enable : gl.disable).call(gl, gl.DEPTH_TEST);
    use(shaped ? on.shaped : on.plain, view, size * ratio, [0, 0, 0, 0]);
    gl.drawArrays(gl.POINTS, from, to - from);
    if (marked) paintMarked(view, size * ratio, ratio, Math.min(marked, kept.chosen.length), ink);
    fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
  }
  function paintMarked(view, size, ratio, count, ink) {
    gl.enable(gl.BLEND);
    gl.disable(gl.DEPTH_TEST);
    for (const [wider, mark] of [[4 * ratio, [...ink, 1]], [ratio, [0, 0, 0, 0]]]) {
      use(on.shaped, view, Math.max(size, 3 * ratio) + wider, mark);
      gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 0);
    }
  }

  function done() {
    if (!fence || gl.isContextLost()) return true;
    if (gl.getSyncParameter(fence, gl.SYNC_STATUS) !== gl.SIGNALED) return false;
    gl.deleteSync(fence);
    fence = null;
    return true;
  }
  function set(name, value) {
    kept[name] = value;
    if (on && !gl.isContextLost()) put[name](value);
  }
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    on = null;
  });
  canvas.addEventListener("webglcontextrestored", () => {
    start();
    canvas.dispatchEvent(new CustomEvent("repaint"));
  });
  start();
  return {
    set, paint, done,
    end: () => { if (!gl.isContextLost()) gl.getExtension("WEBGL_lose_context")?.loseContext(); },
  };
}
