// The network of the page: computes its outputs for a sample, and keeps what each layer did. Arrays are flat: feature
// maps are channels x rows x columns, one after the other. configs/README.md defines the layers.
"use strict";

const sigmoid = z => 1 / (1 + Math.exp(-z));
const ACTIVATIONS = {linear: z => z, sigmoid, relu: z => Math.max(0, z), tanh: Math.tanh};

/** The number with these 16 bits (IEEE 754 binary16). */
function float16(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent === 0)
    return sign * fraction * 2 ** -24;
  return exponent === 31 ? sign * (fraction ? NaN : Infinity) : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), character => character.charCodeAt(0));
}

/** `count` little-endian float32 numbers of a DataView, from `begin`. */
function float32s(view, begin, count) {
  return Float32Array.from({length: count}, (_, i) => view.getFloat32(begin + 4 * i, true));
}

/** `count` little-endian float16 numbers of a DataView, from `begin`. */
function float16s(view, begin, count) {
  return Float32Array.from({length: count}, (_, i) => float16(view.getUint16(begin + 2 * i, true)));
}

const product = sizes => sizes.reduce((a, b) => a * b, 1);

function dense(layer, input) {
  const {weight, bias} = layer.tensors;
  return {sums: bias.map((b, neuron) => {
    let z = b;
    for (let i = 0, w = neuron * input.length; i < input.length; ++i, ++w)
      z += weight[w] * input[i];
    return z;
  })};
}

/** Calls visit(place in the input, place in the kernel) for each pixel of the window of an output pixel that lies in
 *  the image; pixels of the padding are 0. */
function visitWindow(layer, row, column, visit) {
  const [channels, rows, columns] = layer.input, k = layer.kernel;
  const top = row * layer.stride - layer.padding, left = column * layer.stride - layer.padding;
  for (let d = 0; d < channels; ++d)
    for (let u = Math.max(0, -top); u < k && top + u < rows; ++u)
      for (let v = Math.max(0, -left); v < k && left + v < columns; ++v)
        visit((d * rows + top + u) * columns + left + v, (d * k + u) * k + v);
}

function convolution(layer, input) {
  const [maps, rows, columns] = layer.output, size = layer.input[0] * layer.kernel ** 2;
  const {weight, bias} = layer.tensors, sums = new Float32Array(maps * rows * columns);
  for (let i = 0; i < rows; ++i)
    for (let j = 0; j < columns; ++j) {
      const inside = [];
      visitWindow(layer, i, j, (pixel, place) => inside.push(pixel, place));
      for (let map = 0; map < maps; ++map) {
        let z = bias[map];
        for (let n = 0; n < inside.length; n += 2)
          z += weight[map * size + inside[n + 1]] * input[inside[n]];
        sums[(map * rows + i) * columns + j] = z;
      }
    }
  return {sums};
}

/** The values in the window of an output pixel of a pooling layer. */
function pooled(layer, input, unit) {
  const [, rows, columns] = layer.input, [, outRows, outColumns] = layer.output, k = layer.window, values = [];
  const map = Math.floor(unit / (outRows * outColumns));
  const top = Math.floor(unit / outColumns) % outRows * k, left = unit % outColumns * k;
  for (let u = 0; u < k; ++u)
    for (let v = 0; v < k; ++v)
      values.push(input[(map * rows + top + u) * columns + left + v]);
  return values;
}

const mean = values => values.reduce((a, b) => a + b, 0) / values.length;

function pool(combine) {
  return (layer, input) => ({sums: Float32Array.from({length: product(layer.output)},
                                                     (_, unit) => combine(pooled(layer, input, unit)))});
}

/** `steps` has for each time step the gates i, f, g, o after their activations, the cell c and the state h. */
function lstm(layer, input) {
  const [times, features] = layer.input, [units] = layer.output, steps = [];
  const {weight_ih, weight_hh, bias} = layer.tensors;
  let h = new Float32Array(units), c = new Float32Array(units);
  for (let t = 0; t < times; ++t) {
    const sums = bias.map((b, row) => {
      let z = b;
      for (let i = 0; i < features; ++i)
        z += weight_ih[row * features + i] * input[t * features + i];
      for (let i = 0; i < units; ++i)
        z += weight_hh[row * units + i] * h[i];
      return z;
    });
    const gate = (number, f) => sums.slice(number * units, (number + 1) * units).map(f);
    const [i, f, g, o] = [gate(0, sigmoid), gate(1, sigmoid), gate(2, Math.tanh), gate(3, sigmoid)];
    c = c.map((before, unit) => f[unit] * before + i[unit] * g[unit]);
    h = c.map((cell, unit) => o[unit] * Math.tanh(cell));
    steps.push({i, f, g, o, c, h});
  }
  return {sums: h, steps};
}

/** The page has the statistics, weights and biases as one factor and one shift of each channel. */
function batchnorm(layer, input) {
  const {scale, shift} = layer.tensors, size = input.length / scale.length;
  return {sums: input.map((x, i) => scale[Math.floor(i / size)] * x + shift[Math.floor(i / size)])};
}

const OPERATIONS = {dense, conv: convolution, maxpool: pool(values => Math.max(...values)), avgpool: pool(mean), lstm,
                    batchnorm, dropout: (_, input) => ({sums: input})};

function softmax(z) {
  const largest = Math.max(...z), powers = z.map(value => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map(power => power / total);
}

/** The first of equal ones. */
function indexOfLargest(values) {
  return values.reduce((best, value, i) => value > values[best] ? i : best, 0);
}

class Network {
  /** `data` is what page_network.py wrote. */
  constructor(data) {
    this.layers = data.layers;
    this.hasSoftmax = data.softmax;
  }

  /** Takes the weights of a checkpoint: all tensors, one after the other. Those of batchnorm are float32. */
  load(base64) {
    const view = new DataView(bytesOf(base64).buffer);
    let begin = 0;
    for (const layer of this.layers) {
      const [read, bytes] = layer.kind === "batchnorm" ? [float32s, 4] : [float16s, 2];
      layer.tensors = {};
      for (const [name, size] of layer.sizes) {
        layer.tensors[name] = read(view, begin, size);
        begin += bytes * size;
      }
    }
  }

  /** The outputs for a sample, the predicted class, and for each layer its input, weighted sums (before the
   *  activation), activations and, for lstm, steps. */
  forward(sample) {
    let values = sample;
    const stages = this.layers.map(layer => {
      const input = values, done = OPERATIONS[layer.kind](layer, input);
      values = done.sums.map(ACTIVATIONS[layer.activation]);
      return {layer, input, activations: values, ...done};
    });
    const outputs = this.hasSoftmax ? softmax(values) : values;
    return {stages, outputs, prediction: indexOfLargest(outputs)};
  }
}
