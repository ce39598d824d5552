// The network as a drawing: each layer is a column, and each unit lights up with its activation. Also the explanation
// of a unit: where its activation comes from, in pictures and numbers.
"use strict";

const HEIGHT = 340, TOP = 44; // pixels
const GAP = 20, MIN_GAP = 32, MAX_GAP = 240, EDGE = 12; // between columns, without and with lines
const LINES = 80; // connections that are drawn between two layers
const TERMS = 5; // of a weighted sum that are spelled out
const FONT = "12px system-ui, sans-serif";
const ORANGE = [255, 150, 60], BLUE = [90, 170, 255];

/** The colour of an activation on black: white, or blue if it is negative. */
function light(value, limit) {
  const level = Math.min(1, Math.abs(value) / (limit || 1));
  return (value < 0 ? BLUE : [255, 255, 255]).map(part => Math.round(part * level));
}

/** The colour of a weight, as in other pictures of weights: red is positive, blue is negative. */
function weightColour(value, limit) {
  const level = Math.max(-1, Math.min(1, value / (limit || 1)));
  const end = level < 0 ? [33, 102, 172] : [178, 24, 43];
  return end.map(part => Math.round(247 + (part - 247) * Math.abs(level)));
}

const css = (colour, alpha = 1) => `rgba(${colour.join(",")},${alpha})`;
const largest = values => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** A canvas with one pixel for each of rows x columns values. */
function picture(values, rows, columns, colour) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; ++i)
    image.data.set([...colour(values[i]), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Columns have width and height, place(unit): the middle of a unit, unitAt(x, y), and draw(context, stage, limit).

/** Neurons as circles. */
class Dots {
  constructor(count, isLast) {
    this.count = count;
    this.rows = isLast && count <= 20 ? count : count <= 128 ? Math.min(count, 16) : Math.ceil(Math.sqrt(2 * count));
    this.pitch = Math.min(isLast ? 26 : 17, HEIGHT / this.rows);
    this.labels = isLast && count <= 20;
    this.width = Math.ceil(count / this.rows) * this.pitch + (this.labels ? 115 : 0);
    this.height = this.rows * this.pitch;
  }

  place(unit) {
    return [(Math.floor(unit / this.rows) + 0.5) * this.pitch, (unit % this.rows + 0.5) * this.pitch];
  }

  unitAt(x, y) {
    const column = this.labels ? 0 : Math.floor(x / this.pitch);
    return column * this.rows + Math.floor(y / this.pitch);
  }

  draw(context, stage, limit, result) {
    const radius = this.pitch * 0.42;
    for (let unit = 0; unit < this.count; ++unit) {
      const [x, y] = this.place(unit);
      const value = stage.activations[unit];
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fillStyle = css(light(value, limit));
      context.fill();
      context.strokeStyle = "#777";
      context.lineWidth = Math.min(0.7, 0.1 * this.pitch);
      context.stroke();
      if (this.labels)
        this.drawOutput(context, unit, value, limit, x + radius, y, unit === result.prediction);
    }
  }

  drawOutput(context, unit, value, limit, x, y, isChosen) {
    context.fillStyle = isChosen ? css(ORANGE) : "#999";
    context.fillRect(x + 26, y - 5, 44 * Math.max(0, Math.min(1, value / (limit || 1))), 10);
    context.font = `${isChosen ? "bold " : ""}${FONT}`;
    context.fillStyle = isChosen ? "#fff" : "#bbb";
    context.fillText(unit, x + 8, y + 4);
    context.fillText(value.toFixed(3) + (isChosen ? " ◀" : ""), x + 74, y + 4);
  }
}

/** Feature maps, or the image of a sample, as pictures. */
class Maps {
  constructor([count, rows, columns], size) {
    Object.assign(this, {count, rows, columns});
    let across = 0;
    do
      this.scale = (HEIGHT / Math.ceil(count / ++across) - 3) / rows;
    while (this.scale < Math.min(2, 56 / rows) && across < count);
    this.scale = Math.min(this.scale, size / Math.max(rows, columns));
    this.across = across;
    [this.stepX, this.stepY] = [columns * this.scale + 3, rows * this.scale + 3];
    this.width = across * this.stepX - 3;
    this.height = Math.ceil(count / across) * this.stepY - 3;
  }

  corner(map) {
    return [map % this.across * this.stepX, Math.floor(map / this.across) * this.stepY];
  }

  place(unit) {
    const size = this.rows * this.columns, [x, y] = this.corner(Math.floor(unit / size));
    return [x + (unit % this.columns + 0.5) * this.scale,
            y + (Math.floor(unit % size / this.columns) + 0.5) * this.scale];
  }

  unitAt(x, y) {
    const map = Math.floor(y / this.stepY) * this.across + Math.floor(x / this.stepX);
    const row = Math.floor(y % this.stepY / this.scale), column = Math.floor(x % this.stepX / this.scale);
    return row < this.rows && column < this.columns ? (map * this.rows + row) * this.columns + column : -1;
  }

  draw(context, stage, limit) {
    const size = this.rows * this.columns;
    for (let map = 0; map < this.count; ++map) {
      const values = stage.activations.subarray(map * size, (map + 1) * size);
      context.drawImage(picture(values, this.rows, this.columns, value => light(value, limit)), ...this.corner(map),
                        this.columns * this.scale, this.rows * this.scale);
    }
  }
}

/** The state of an LSTM: rows are units, columns are time steps. The last column is the output. */
class States {
  constructor(units, times) {
    Object.assign(this, {units, times});
    this.stepX = Math.min(10, 200 / times);
    this.stepY = Math.min(16, HEIGHT / units);
    this.width = times * this.stepX;
    this.height = units * this.stepY;
  }

  place(unit) {
    return [this.width - this.stepX / 2, (unit + 0.5) * this.stepY];
  }

  unitAt(x, y) {
    return Math.floor(y / this.stepY);
  }

  draw(context, stage) {
    const values = Array.from({length: this.units * this.times},
                              (_, i) => stage.steps[i % this.times].h[Math.floor(i / this.times)]);
    const limit = largest(values);
    context.drawImage(picture(values, this.units, this.times, value => light(value, limit)), 0, 0, this.width,
                      this.height);
  }
}

class NetworkView {
  /** Calls selected(column, unit) when the user points at a unit. `shape`: of a sample. `signal` ends the listeners. */
  constructor(canvas, network, shape, signal, selected) {
    this.canvas = canvas;
    this.selected = selected;
    this.columns = [this.column(this.firstColumn(shape), "input")];
    const last = lastLayer(network);
    network.layers.forEach((layer, number) => {
      if (layer.kind === "lstm")
        this.columns.push(this.column(new States(layer.output[0], layer.input[0]), layer.text, number));
      else if (layer.output.length === 3 && number !== last)
        this.columns.push(this.column(new Maps(layer.output, 64), layer.text, number));
      else if (layer.kind !== "dropout" && number !== last) // dropout changes nothing here
        this.columns.push(this.column(new Dots(product(layer.output), false), layer.text, number));
    });
    const {output, kind, text} = network.layers[last];
    this.columns.push(this.column(new Dots(product(output), true), kind === "lstm" ? "outputs" : text, last));
    this.arrange();
    const listen = (name, handler) => canvas.addEventListener(name, handler, {signal});
    listen("pointermove", event => event.pointerType === "mouse" && this.point(event));
    listen("click", event => this.point(event));
    listen("keydown", event => this.move(event));
  }

  firstColumn(shape) {
    return shape.length === 1 ? new Dots(shape[0], false) :
        new Maps(shape.length === 3 ? shape : [product(shape.slice(0, -2)), ...shape.slice(-2)], 140);
  }

  /** `number`: of the layer; undefined for the input. */
  column(drawn, text, number) {
    return {drawn, text, number};
  }

  /** Places the columns. The gaps with lines fill the width of the page, if the columns leave enough. */
  arrange() {
    const context = this.canvas.getContext("2d"), hasLines = column => column.text.startsWith("dense");
    context.font = FONT;
    for (const column of this.columns) {
      column.lines = labelLines(column.text);
      column.width = Math.max(column.drawn.width, ...column.lines.map(line => context.measureText(line).width));
    }
    const withLines = this.columns.filter(hasLines).length || 1;
    const fixed = this.columns.reduce((sum, column) => sum + column.width + (hasLines(column) ? 0 : GAP), -GAP);
    const free = this.canvas.parentElement.clientWidth - 2 * EDGE - fixed;
    const gap = Math.max(MIN_GAP, Math.min(MAX_GAP, free / withLines));
    let x = EDGE;
    for (const column of this.columns) {
      x += column.number === undefined ? 0 : hasLines(column) ? gap : GAP;
      column.x = x;
      column.y = TOP + (HEIGHT - column.drawn.height) / 2;
      x += column.width;
    }
    this.width = Math.max(x + EDGE, this.canvas.parentElement.clientWidth);
    const ratio = window.devicePixelRatio || 1, height = TOP + HEIGHT + 10;
    [this.canvas.width, this.canvas.height] = [this.width * ratio, height * ratio];
    [this.canvas.style.width, this.canvas.style.height] = [`${this.width}px`, `${height}px`];
    context.scale(ratio, ratio);
  }

  /** What a column shows, as of a layer: the first column has the sample, and the last one the outputs. */
  stageOf(column) {
    return column.number === undefined ? {activations: this.sample} :
        column === this.columns.at(-1) ? {activations: this.result.outputs} : this.result.stages[column.number];
  }

  draw(sample, result, choice) {
    Object.assign(this, {sample, result, choice});
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.width, TOP + HEIGHT + 10);
    this.columns.forEach((column, number) => {
      if (column.text.startsWith("dense"))
        this.drawConnections(context, this.columns[number - 1], column);
      const isOutput = column === this.columns.at(-1), stage = this.stageOf(column);
      context.save();
      context.font = FONT;
      context.fillStyle = "#bbb";
      column.lines.forEach((line, place) => context.fillText(line, column.x, 17 + 15 * place));
      context.translate(column.x, column.y);
      const {activations} = stage, isBounded = isOutput && activations.every(value => value >= 0 && value <= 1);
      column.drawn.draw(context, stage, isBounded ? 1 : largest(activations), result);
      if (choice?.column === column) {
        context.strokeStyle = "#ffd400";
        context.lineWidth = 2;
        context.beginPath();
        context.arc(...column.drawn.place(choice.unit), 8, 0, 2 * Math.PI);
        context.stroke();
      }
      context.restore();
    });
  }

  /** The largest products of weight and activation, of all neurons or of the chosen one. */
  drawConnections(context, from, to) {
    const stage = this.result.stages[to.number];
    const found = this.choice?.column === to ? connections(stage, [this.choice.unit], LINES / 2) :
        stage.connections ??= connections(stage, [...stage.sums.keys()], 4);
    const limit = Math.abs(found[0]?.term) || 1;
    for (const {neuron, i, term} of [...found].reverse()) {
      const [x, y] = from.drawn.place(i), [toX, toY] = to.drawn.place(neuron);
      context.strokeStyle = css(term < 0 ? BLUE : ORANGE, 0.15 + 0.75 * Math.abs(term) / limit);
      context.lineWidth = 0.5 + 1.5 * Math.abs(term) / limit;
      context.beginPath();
      context.moveTo(from.x + x, from.y + y);
      context.lineTo(to.x + toX, to.y + toY);
      context.stroke();
    }
  }

  point(event) {
    const area = this.canvas.getBoundingClientRect();
    const x = event.clientX - area.left, y = event.clientY - area.top;
    for (const column of this.columns) {
      const [inX, inY] = [x - column.x, y - column.y];
      if (inX < 0 || inY < 0 || inX >= column.drawn.width || inY >= column.drawn.height)
        continue;
      const unit = column.drawn.unitAt(inX, inY);
      if (unit >= 0 && unit < this.stageOf(column).activations.length)
        this.selected(column, unit);
    }
  }

  /** Arrow keys: left and right to another layer, up and down to another unit. */
  move(event) {
    const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    if (!(event.key in steps))
      return;
    event.preventDefault();
    const [across, down] = steps[event.key], {column: before, unit} = this.choice;
    const column = this.columns[this.columns.indexOf(before) + across] ?? before;
    const values = this.stageOf(column).activations;
    const next = column === before ? unit + down : brightest(values, 1)[0] ?? 0;
    this.selected(column, Math.max(0, Math.min(values.length - 1, next)));
  }
}

/** The number of the layer that computes the outputs: dropout after it changes nothing. */
function lastLayer(network) {
  return network.layers.findLastIndex(({kind}) => kind !== "dropout");
}

/** Of the `count` largest products of weight and activation of each of `neurons`, the LINES largest, sorted. */
function connections({input, layer}, neurons, count) {
  const {weight} = layer.tensors;
  return neurons.flatMap(neuron => {
    const terms = input.map((a, i) => a * weight[neuron * input.length + i]);
    return brightest(terms, count).map(i => ({neuron, i, term: terms[i]}));
  }).sort((a, b) => Math.abs(b.term) - Math.abs(a.term)).slice(0, LINES);
}

/** The text of a layer in two lines. */
function labelLines(text) {
  const words = text.split(" "), first = words.length > 3 || text.length > 14 ? 2 : words.length;
  return [words.slice(0, first).join(" "), words.slice(first).join(" ")];
}

/** The places of the `count` numbers of the largest absolute value. */
function brightest(values, count) {
  const found = [];
  for (let i = 0; i < values.length; ++i) {
    if (!values[i] || found.length === count && Math.abs(values[i]) <= Math.abs(values[found[count - 1]]))
      continue;
    let place = found.findIndex(other => Math.abs(values[other]) < Math.abs(values[i]));
    found.splice(place < 0 ? found.length : place, 0, i);
    found.length = Math.min(found.length, count);
  }
  return found;
}

const number = value => Number(value.toPrecision(3)).toString().replace("-", "−");
const signed = value => (value < 0 ? " − " : " + ") + number(Math.abs(value));

/** The name of unit `i` of an array of this shape. */
function unitName(shape, i) {
  if (shape.length === 1)
    return `neuron ${i}`;
  const columns = shape.at(-1), rows = shape.at(-2), map = Math.floor(i / (rows * columns));
  const pixel = `row ${Math.floor(i / columns) % rows}, column ${i % columns}`;
  return product(shape.slice(0, -2)) > 1 ? `map ${map}, ${pixel}` : pixel;
}

/** z = Σ w·a + b in numbers. `terms`: {weight, value, name}. */
function sumText(terms, bias, z) {
  const products = terms.map(term => term.weight * term.value), spelled = brightest(products, TERMS);
  const rest = products.reduce((a, b) => a + b, 0) - spelled.reduce((sum, i) => sum + products[i], 0);
  const others = terms.length - spelled.length;
  const text = ({weight, value, name}) => `${signed(weight)} · ${number(value)} (${name})`;
  return "z = Σ w·a + b =" + spelled.map(i => text(terms[i])).join("").replace(/^ \+/, "") +
      (others ? `${signed(rest)} (${others} other terms)` : "") + `${signed(bias)} (b) = ${number(z)}`;
}

const ACTIVATION_TEXTS = {linear: "a = z", sigmoid: "a = 1 / (1 + e^(−z))", relu: "a = max(0, z)",
                          tanh: "a = tanh(z)"};

/** Explains a unit: {title, pictures, lines}. A picture has values, rows, columns, isWeights and a caption. */
function explain(network, sample, shape, result, layerNumber, unit) {
  if (layerNumber === undefined)
    return {title: `Input: ${unitName(shape, unit)}`, pictures: [], lines: [`a = ${number(sample[unit])}`]};
  const stage = result.stages[layerNumber], {layer, input} = stage, {tensors} = layer;
  const z = stage.sums[unit], a = stage.activations[unit], isFirst = input === sample;
  const source = isFirst ? shape : network.layers[layerNumber - 1].output;
  const title = `${unitName(layer.output, unit)} of layer ${layerNumber + 1} (${layer.text})`;
  const pictures = [], lines = [];
  const show = (caption, values, rows, columns, isWeights) =>
      pictures.push({caption, values, rows, columns, isWeights});

  if (layer.kind === "dense") {
    const weights = tensors.weight.subarray(unit * input.length, (unit + 1) * input.length);
    const [rows, columns] = source.length === 1 ? [1, source[0]] : source.slice(-2);
    const maps = input.length / (rows * columns);
    for (let map = 0; map < Math.min(maps, 16); ++map) {
      const part = values => values.subarray(map * rows * columns, (map + 1) * rows * columns);
      show(maps > 1 ? `weights of map ${map}` : "weights w", part(weights), rows, columns, true);
      if (maps === 1)
        show("inputs a", part(input), rows, columns, false);
    }
    lines.push(sumText(Array.from(weights, (weight, i) => ({weight, value: input[i], name: unitName(source, i)})),
                       tensors.bias[unit], z));
  } else if (layer.kind === "conv") {
    const [channels] = layer.input, [, rows, columns] = layer.output, k = layer.kernel, terms = [];
    const map = Math.floor(unit / (rows * columns)), size = channels * k * k;
    const kernel = tensors.weight.subarray(map * size, (map + 1) * size), seen = new Float32Array(size);
    visitWindow(layer, Math.floor(unit / columns) % rows, unit % columns, (pixel, place) => {
      seen[place] = input[pixel];
      terms.push({weight: kernel[place], value: input[pixel], name: unitName(source, pixel)});
    });
    for (let d = 0; d < Math.min(channels, 16); ++d) {
      const part = values => values.subarray(d * k * k, (d + 1) * k * k);
      show(channels > 1 ? `kernel of map ${d}` : "kernel w", part(kernel), k, k, true);
      show(channels > 1 ? `window of map ${d}` : "window a", part(seen), k, k, false);
    }
    lines.push(sumText(terms, tensors.bias[map], z));
  } else if (layer.window) {
    const values = pooled(layer, input, unit);
    show("window", Float32Array.from(values), layer.window, layer.window, false);
    lines.push(`z = ${layer.kind === "maxpool" ? "max" : "mean"} of ` +
               values.map(number).join(", ") + ` = ${number(z)}`);
  } else if (layer.kind === "batchnorm") {
    const channel = Math.floor(unit * tensors.scale.length / input.length);
    lines.push(`z = scale · a + shift = ${number(tensors.scale[channel])} · ${number(input[unit])}` +
               `${signed(tensors.shift[channel])} = ${number(z)}`);
  } else if (layer.kind === "lstm") {
    const [times, features] = layer.input, [units] = layer.output, at = stage.steps.at(-1);
    ["input gate", "forget gate", "cell", "output gate"].forEach((gate, place) => {
      const row = place * units + unit;
      show(`weights of the ${gate}`, tensors.weight_ih.subarray(row * features, (row + 1) * features), 1, features,
           true);
    });
    show("state h over time", Float32Array.from(stage.steps, step => step.h[unit]), 1, times, false);
    const before = stage.steps.at(-2)?.c[unit] ?? 0;
    lines.push(`Time step ${times}: c = f · c + i · g = ${number(at.f[unit])} · ${number(before)}` +
               ` + ${number(at.i[unit])} · ${number(at.g[unit])} = ${number(at.c[unit])}; ` +
               `h = o · tanh(c) = ${number(at.o[unit])} · ${number(Math.tanh(at.c[unit]))} = ${number(a)}. ` +
               "Gates i, f, o: sigmoid of weighted sums of the inputs and of h before; g: tanh.");
    return {title, pictures, lines};
  }
  lines.push(`${ACTIVATION_TEXTS[layer.activation]} = ${number(a)}`);
  if (network.hasSoftmax && layerNumber === lastLayer(network))
    lines.push(`output = softmax of all z: e^z / Σ e^z = ${number(result.outputs[unit])}`);
  return {title, pictures, lines};
}
