// The section of the page with the network: connects the drawing field, the samples, the view and the film.
"use strict";

class NetworkSection {
  /** `data` is what page_network.py wrote. `signal` ends all listeners. `before`: the section so far, if a live page
   *  has a newer network. */
  constructor(data, signal, before) {
    this.data = data;
    this.signal = signal;
    this.form = JSON.stringify([data.shape, data.layers]);
    this.network = new Network(data);
    [this.rows, this.columns] = data.shape.slice(-2);
    element("network").hidden = false;
    this.view = new NetworkView(element("network-canvas"), this.network, data.shape, signal, (column, unit) => {
      if (column === this.choice?.column && unit === this.choice.unit)
        return;
      this.choice = {column, unit};
      this.show();
    });
    this.showSamples();
    const kept = before?.form === this.form ? before : undefined;
    if (kept?.choice)
      this.choice = {column: this.view.columns[kept.view.columns.indexOf(kept.choice.column)], unit: kept.choice.unit};
    this.sample = kept?.sample ?? (data.samples.length ? samplePixels(data.samples[0]) : this.blank());
    if (data.drawable)
      this.startDrawing(kept?.drawing?.strokes ?? []);
    this.startFilm();
    this.load(this.placeAfter(kept));
  }

  blank() {
    return new Float32Array(product(this.data.shape));
  }

  startDrawing(strokes) {
    this.drawing = new Drawing(element("network-field"), strokes, this.signal, () => this.takeDrawingSoon());
    if (strokes.length)
      this.sample = this.drawing.sample(this.rows, this.columns);
    element("network-clear").addEventListener("click", () => this.choose(this.blank()), {signal: this.signal});
  }

  showSamples() {
    element("network-samples").replaceChildren(...this.data.samples.map(entry => {
      const button = document.createElement("button"), pixels = samplePixels(entry), limit = largest(pixels);
      button.type = "button";
      button.title = `test sample ${entry.index}, true class ${entry.label}`;
      button.setAttribute("aria-label", button.title);
      const columns = this.columns ?? this.rows; // a sample of one dimension is one row
      button.append(enlarged(pixels, pixels.length / columns, columns, value => light(value, limit), 42));
      button.addEventListener("click", () => this.choose(pixels), {signal: this.signal});
      return button;
    }));
  }

  choose(sample) {
    this.drawing?.clear();
    this.sample = sample;
    this.compute();
  }

  /** Once for each frame that the browser draws: there may be many events between two frames. */
  takeDrawingSoon() {
    this.request ??= requestAnimationFrame(() => {
      this.request = undefined;
      if (this.signal.aborted || !this.drawing.strokes.length) // replaced or cleared meanwhile
        return;
      this.sample = this.drawing.sample(this.rows, this.columns);
      this.compute();
    });
  }

  /** After a change of the sample or of the weights. */
  compute() {
    this.result = this.network.forward(this.sample);
    this.show();
  }

  show() {
    const {result} = this;
    const choice = this.choice ?? {column: this.view.columns.at(-1), unit: result.prediction};
    this.view.draw(this.sample, result, choice);
    for (const id of ["network-prediction", "film-prediction"])
      element(id)?.replaceChildren(
          `Predicted class: ${result.prediction} (output ${result.outputs[result.prediction].toFixed(3)})`);
    this.showExplanation(explain(this.network, this.sample, this.data.shape, result, choice.column.number,
                                 choice.unit));
  }

  showExplanation({title, pictures, lines}) {
    const heading = document.createElement("b"), tiles = document.createElement("div");
    heading.textContent = title;
    tiles.className = "tiles";
    const limitOf = isWeights =>
        largest(pictures.filter(part => part.isWeights === isWeights).map(part => largest(part.values)));
    const [inputLimit, weightLimit] = [limitOf(false), limitOf(true)];
    for (const part of pictures) {
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      const colour = part.isWeights ? value => weightColour(value, weightLimit) : value => light(value, inputLimit);
      const canvas = enlarged(part.values, part.rows, part.columns, colour, part.rows === 1 ? 300 : 112);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${part.caption} of ${title}`);
      caption.textContent = part.caption;
      figure.append(canvas, caption);
      tiles.append(figure);
    }
    element("network-explanation").replaceChildren(heading, tiles, ...lines.map(line => {
      const paragraph = document.createElement("p");
      paragraph.textContent = line;
      return paragraph;
    }));
  }

  startFilm() {
    this.film = element("film");
    if (!this.film)
      return;
    this.film.max = this.data.checkpoints.length - 1;
    this.film.addEventListener("input", () => this.load(Number(this.film.value)), {signal: this.signal});
    this.network.load(this.data.checkpoints.at(-1).weights);
    this.weightLimit = 0.6 * largest(this.firstWeights().map(part => largest(part.values))); // growth shows
    this.copyCharts();
  }

  /** Where the film begins: at the step where the section `before` was, or at the last checkpoint. */
  placeAfter(before) {
    const last = this.data.checkpoints.length - 1;
    if (!before || before.place === before.data.checkpoints.length - 1)
      return last;
    const {step} = before.data.checkpoints[before.place];
    const place = this.data.checkpoints.findIndex(checkpoint => checkpoint.step >= step);
    return place < 0 ? last : place;
  }

  /** Shows the network of the checkpoint number `place`. */
  load(place) {
    const checkpoint = this.data.checkpoints[place];
    this.place = place;
    this.network.load(checkpoint.weights);
    this.compute();
    if (!this.film)
      return;
    this.film.value = place;
    element("film-weights").replaceChildren(...this.firstWeights().map(part => enlarged(
        part.values, part.rows, part.columns, value => weightColour(value, this.weightLimit),
        part.rows > 40 ? 256 : 56)));
    element("film-step").textContent = checkpoint.step.toLocaleString("en");
    this.film.setAttribute("aria-valuetext", `step ${checkpoint.step}`);
    this.markStep();
  }

  firstWeights() {
    return firstWeights(this.network, this.data.shape);
  }

  copyCharts() {
    this.originals = originalCharts();
    element("film-charts").replaceChildren();
    this.marker = markOnCopy("surface", "circle", {id: "film-marker", r: 7});
    this.cursor = markOnCopy("cost", "path", {id: "film-cursor"});
  }

  /** Copies the charts again if a live page has replaced them. */
  followCharts() {
    if (!this.film || this.originals === originalCharts())
      return;
    this.copyCharts();
    this.markStep();
  }

  markStep() {
    const {step} = this.data.checkpoints[this.place];
    if (this.marker) {
      const [x, y] = placeAt(this.marker.places, step);
      this.marker.shape.setAttribute("cx", x);
      this.marker.shape.setAttribute("cy", y);
    }
    if (this.cursor) {
      const {places, shape} = this.cursor, [x] = placeAt(places, step);
      shape.setAttribute("d", `M${x} ${places[0][2]}V${places[1][2]}`);
    }
  }
}

function element(id) {
  return document.getElementById(id);
}

function samplePixels({bytes, values}) {
  if (bytes)
    return Float32Array.from(bytesOf(bytes), byte => byte / 255);
  const data = bytesOf(values);
  return float32s(new DataView(data.buffer), 0, data.length / 4);
}

/** A picture whose longer side has about `size` pixels on the page. */
function enlarged(values, rows, columns, colour, size) {
  const canvas = picture(values, rows, columns, colour), scale = Math.min(12, size / Math.max(rows, columns));
  canvas.style.width = `${columns * scale}px`;
  canvas.style.height = `${rows === 1 ? 12 : rows * scale}px`;
  return canvas;
}

/** The charts that follow the film, as text. */
function originalCharts() {
  return ["surface", "cost"].map(name => element(`chart-${name}`)?.outerHTML).join();
}

/** A shape on a copy of a chart of the page, with other ids, among the charts of the film; and the chart's places: rows
 *  of step, x and y. Undefined if the page has no such chart, or the chart no places. */
function markOnCopy(name, kind, attributes) {
  const original = element(`chart-${name}`), places = JSON.parse(original?.dataset.places ?? "[]");
  if (!places.length)
    return undefined;
  const figure = document.createElement("figure");
  figure.innerHTML = original.outerHTML.replace(/(\bid="|url\(#|href="#)/g, "$1film-");
  element("film-charts").append(figure);
  const chart = figure.firstElementChild, shape = document.createElementNS(chart.namespaceURI, kind);
  Object.entries(attributes).forEach(([key, value]) => shape.setAttribute(key, value));
  chart.append(shape);
  return {shape, places};
}

/** x and y at a step, on straight lines between the places. */
function placeAt(places, step) {
  const next = places.findIndex(place => place[0] >= step), after = places.at(next), before = places.at(next - 1);
  if (next < 1)
    return after.slice(1);
  const fraction = (step - before[0]) / (after[0] - before[0]);
  return [1, 2].map(axis => before[axis] + fraction * (after[axis] - before[axis]));
}

/** The weights of the first layer that has some, as pictures: of neurons or feature maps, or of an LSTM's gates. */
function firstWeights(network, shape) {
  const layer = network.layers.find(({kind}) => ["dense", "conv", "lstm"].includes(kind));
  if (!layer)
    return [];
  const weights = layer.tensors.weight ?? layer.tensors.weight_ih, before = network.layers.indexOf(layer);
  const count = layer.kind === "lstm" ? 4 : layer.output[0], size = weights.length / count;
  const columns = layer.kind === "conv" ? layer.kernel : layer.kind === "lstm" ? layer.input[1] :
      (before ? network.layers[before - 1].output : shape).at(-1);
  return Array.from({length: Math.min(count, 40)}, (_, i) =>
      ({values: weights.subarray(i * size, (i + 1) * size), rows: size / columns, columns}));
}

{
  let section, text, listeners;
  const start = () => {
    const found = element("network-data")?.textContent;
    if (!found)
      return;
    if (found === text && !element("network").hidden) {
      section.followCharts();
      return;
    }
    listeners?.abort();
    listeners = new AbortController();
    text = found;
    section = new NetworkSection(JSON.parse(text), listeners.signal, section);
  };
  start();
  document.addEventListener("pagechange", start); // of a live page, which replaces parts of the page
}
