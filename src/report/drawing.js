// A field to draw a digit in. Like MNIST's digits, the drawing is scaled to a box of 20 x 20 of 28 x 28 pixels, keeps
// its proportions, and has its centre of mass in the middle.
"use strict";

const FIELD = 28, BOX = 20, PEN = 2.4; // pixels of MNIST
const FINE = 8; // each pixel is the mean of so many rows and columns

class Drawing {
  /** Calls changed() after each change. `signal` ends the listeners. */
  constructor(canvas, strokes, signal, changed) {
    this.canvas = canvas;
    this.strokes = strokes; // lists of points, whose coordinates are between 0 and 1
    this.changed = changed;
    const listen = (name, handler) => canvas.addEventListener(name, handler, {signal});
    listen("pointerdown", event => {
      if (event.button !== 0)
        return;
      canvas.setPointerCapture(event.pointerId);
      this.pointer = event.pointerId;
      this.strokes.push([]);
      this.add([event]);
    });
    listen("pointermove", event => {
      if (event.pointerId === this.pointer)
        this.add(event.getCoalescedEvents?.() ?? [event]);
    });
    for (const end of ["pointerup", "pointercancel"])
      listen(end, () => { this.pointer = undefined; });
    this.show();
  }

  add(events) {
    const area = this.canvas.getBoundingClientRect();
    this.strokes.at(-1).push(...events.map(({clientX, clientY}) => [(clientX - area.left) / area.width,
                                                                    (clientY - area.top) / area.height]));
    this.show();
    this.changed();
  }

  clear() {
    this.strokes = [];
    this.show();
  }

  show() {
    const {width, height} = this.canvas;
    paint(this.canvas.getContext("2d"), this.strokes, point => [point[0] * width, point[1] * height],
          PEN / FIELD * width);
    if (!this.strokes.length) {
      const context = this.canvas.getContext("2d");
      context.fillStyle = "#888";
      context.font = `${width / 12}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.fillText("draw a digit here", width / 2, height / 2);
    }
  }

  /** The drawing as rows x columns numbers from 0 to 1. */
  sample(rows, columns) {
    const points = this.strokes.flat(), [xs, ys] = [0, 1].map(axis => points.map(point => point[axis]));
    const unit = FINE * Math.min(rows, columns) / FIELD; // a pixel of MNIST
    const extent = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys), 0.1);
    const scale = (BOX - PEN) * unit / extent;
    const canvas = document.createElement("canvas");
    canvas.width = FINE * columns;
    canvas.height = FINE * rows;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    // First the middle of the drawing, then its centre of mass comes to the middle of the image.
    let [x, y] = [xs, ys].map(values => (Math.max(...values) + Math.min(...values)) / 2);
    let pixels;
    for (const last of [false, true]) {
      paint(context, this.strokes, point => [(point[0] - x) * scale + canvas.width / 2,
                                             (point[1] - y) * scale + canvas.height / 2], PEN * unit);
      pixels = means(context, rows, columns);
      if (!last) {
        const total = pixels.reduce((sum, value) => sum + value, 0) || 1;
        const centre = of => pixels.reduce((sum, value, i) => sum + value * (of(i) + 0.5), 0) / total * FINE;
        x += (centre(i => i % columns) - canvas.width / 2) / scale;
        y += (centre(i => Math.floor(i / columns)) - canvas.height / 2) / scale;
      }
    }
    return pixels;
  }
}

/** White strokes on black. place(point) is where a point lies. */
function paint(context, strokes, place, width) {
  context.fillStyle = "#000";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.strokeStyle = "#fff";
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...place(stroke[0]));
    stroke.forEach(point => context.lineTo(...place(point)));
    context.stroke();
  }
}

function means(context, rows, columns) {
  const {width, height} = context.canvas, {data} = context.getImageData(0, 0, width, height);
  const pixels = new Float32Array(rows * columns);
  for (let y = 0; y < height; ++y)
    for (let x = 0; x < width; ++x)
      pixels[Math.floor(y / FINE) * columns + Math.floor(x / FINE)] += data[4 * (y * width + x)] / 255 / FINE ** 2;
  return pixels;
}
