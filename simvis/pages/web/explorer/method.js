// The method, as in similarity_ops.py: local features l[u] sum to the embedding, everything is a view of them.

/** Returns the weight of each cell, the part of it that a box covers. */
function boxWeights([x0, y0, x1, y1], { width, height, rows, columns }) {
  // times the cells' number all edges are integers, so that nothing is rounded
  const covered = (low, high, cell, cells, size) =>
    Math.max(0, Math.min(high * cells, (cell + 1) * size) - Math.max(low * cells, cell * size)) /
    size;
  return Float64Array.from(
    { length: rows * columns },
    (_, u) =>
      covered(y0, y1, Math.floor(u / columns), rows, height) *
      covered(x0, x1, u % columns, columns, width),
  );
}

/** Returns {local (N, D), feature (D), norm} of an image's cells with these weights. */
function pool(image, explain, power, weights) {
  const projected = explain === "head" && image.projected !== null;
  const pooling = explain === "head" ? DATA.head.pooling : explain;
  let local = projected
    ? average(image.projected, weights)
    : pooling === "average"
      ? average(image.values, weights)
      : peaks(image.values, weights, pooling, power);
  if (explain === "head") {
    if (!projected) local = project(local, weights.length);
    addBias(local, image.bias, weights);
  }
  const feature = new Float64Array(local.length / weights.length);
  for (let k = 0; k < local.length; )
    for (let d = 0; d < feature.length; d++) feature[d] += local[k++];
  const cells = weights.reduce((a, b) => a + b, 0);
  return { local, feature, norm: Math.sqrt(dot(feature, 0, feature)), cells };
}

function average(values, weights) {
  const total = weights.reduce((a, b) => a + b, 0);
  const local = new Float32Array(values.length),
    depth = values.length / weights.length;
  for (let u = 0; u < weights.length; u++) {
    const share = weights[u] / total;
    if (share > 0) for (let k = u * depth; k < (u + 1) * depth; k++) local[k] = share * values[k];
  }
  return local;
}

/** Returns the local features of maximum and GeM pooling, to which each channel's peak matters. */
function peaks(values, weights, pooling, power) {
  const local = new Float32Array(values.length);
  const inside = [...weights.keys()].filter((u) => weights[u] > 0);
  const peak = new Float64Array(CHANNELS).fill(-Infinity),
    total = new Float64Array(CHANNELS);
  for (const u of inside) {
    for (let c = 0, k = u * CHANNELS; c < CHANNELS; c++, k++)
      if (values[k] > peak[c]) peak[c] = values[k];
  }
  for (const u of inside) {
    for (let c = 0, k = u * CHANNELS; c < CHANNELS; c++, k++) {
      if (pooling === "max")
        local[k] = values[k] === peak[c] ? 1 : 0; // ties share
      else local[k] = values[k] > 0 ? weights[u] * (values[k] / peak[c]) ** power : 0;
      total[c] += local[k];
    }
  }
  const sum = weights.reduce((a, b) => a + b, 0);
  // the feature over the total
  const gain = total.map((t, c) => {
    if (pooling === "max") return peak[c] / t;
    return t > 0 ? (peak[c] * (t / sum) ** (1 / power)) / t : 0;
  });
  for (const u of inside)
    for (let c = 0, k = u * CHANNELS; c < CHANNELS; c++, k++) local[k] *= gain[c];
  return local;
}

function project(local, cells) {
  const depth = DATA.head.dimensions,
    result = new Float32Array(cells * depth);
  for (let k = 0; k < local.length; k++) {
    if (local[k] === 0) continue;
    const out = Math.floor(k / CHANNELS) * depth,
      row = (k % CHANNELS) * depth;
    for (let d = 0; d < depth; d++) result[out + d] += local[k] * kernel[row + d];
  }
  return result;
}

/** Gives each cell that takes part an equal share of the head's bias. */
function addBias(local, bias, weights) {
  const share = 1 / weights.reduce((count, weight) => count + (weight > 0), 0);
  weights.forEach((weight, u) => {
    if (weight > 0)
      bias.forEach((value, d) => {
        local[u * bias.length + d] += share * value;
      });
  });
}

function dot(matrix, start, vector) {
  let sum = 0;
  for (let c = 0; c < vector.length; c++) sum += matrix[start + c] * vector[c];
  return sum;
}

/** Returns what each cell of an image has in common with a vector: (h, w) values. */
function common(pooled, vector, scale) {
  const map = new Float64Array(pooled.local.length / vector.length);
  for (let u = 0; u < map.length; u++)
    map[u] = dot(pooled.local, u * vector.length, vector) * scale;
  return map;
}

/** Returns {pooled, maps, similarity, scale}; the similarity is NaN where it is undefined. */
function compare(pooled) {
  const scale = 1 / (pooled[0].norm * pooled[1].norm);
  const similarity = dot(pooled[0].feature, 0, pooled[1].feature) * scale;
  const defined = Number.isFinite(similarity);
  const maps = pooled.map((own, i) =>
    defined
      ? common(own, pooled[1 - i].feature, scale)
      : new Float64Array(images[i].rows * images[i].columns),
  );
  return { pooled, maps, scale: defined ? scale : 0, similarity: defined ? similarity : NaN };
}

/** Returns the cells around a pixel with their shares: it is interpolated between their centres. */
function cellsAt({ x, y }, { width, height, rows, columns }) {
  const [top, bottom, down] = neighbours(((y + 0.5) * rows) / height - 0.5, rows);
  const [left, right, across] = neighbours(((x + 0.5) * columns) / width - 0.5, columns);
  return [
    [top * columns + left, (1 - down) * (1 - across)],
    [top * columns + right, (1 - down) * across],
    [bottom * columns + left, down * (1 - across)],
    [bottom * columns + right, down * across],
  ];
}

/** Returns the cell that a pixel lies in. */
const cellAt = ({ x, y }, { width, height, rows, columns }) =>
  Math.floor(((y + 0.5) * rows) / height) * columns + Math.floor(((x + 0.5) * columns) / width);

/** Returns the other image's map of what a point matches. */
function match(point) {
  const { local, feature } = pair.pooled[point.image],
    vector = new Float64Array(feature.length);
  for (const [u, share] of cellsAt(point, images[point.image])) {
    if (share > 0)
      for (let d = 0, k = u * vector.length; d < vector.length; d++, k++)
        vector[d] += share * local[k];
  }
  return pair.scale
    ? common(pair.pooled[1 - point.image], vector, pair.scale)
    : new Float64Array(pair.maps[1 - point.image].length);
}

/** Returns the cosine of each cell's local feature with that of one cell of the other image. */
function cosines(own, other, cell) {
  const depth = own.feature.length,
    vector = Float64Array.from(other.local.subarray(cell * depth, (cell + 1) * depth)),
    sizes = norms(own).map((norm) => norm * norms(other)[cell]);
  // by six decimals, so that equal ones tie; what is all zero is like nothing
  return common(own, vector, 1).map((product, u) =>
    sizes[u] > 0 ? Math.round((1e6 * product) / sizes[u]) / 1e6 : 0,
  );
}

/** Returns the lengths of the local features. */
function norms(pooled) {
  const depth = pooled.feature.length;
  pooled.norms ??= Float64Array.from({ length: pooled.local.length / depth }, (_, u) =>
    Math.sqrt(dot(pooled.local, u * depth, pooled.local.subarray(u * depth, (u + 1) * depth))),
  );
  return pooled.norms;
}

/** Returns {image, y, x, cosine, mutual, adds} of the other image's cell that is nearest to a point's by
 *  the cosine, mutual if the point's is the nearest to it, too; null if there is none. */
function nearest(point) {
  const { image } = point,
    cell = cellAt(point, images[image]);
  const own = pair.pooled[image],
    other = pair.pooled[1 - image];
  const there = cosines(other, own, cell),
    cosine = Math.max(...there),
    found = there.indexOf(cosine);
  if (!(pair.scale && cosine > 0)) return null;
  const back = cosines(own, other, found),
    across = images[1 - image].columns;
  return {
    image: 1 - image,
    y: Math.floor(found / across),
    x: found % across,
    cosine,
    mutual: back.indexOf(Math.max(...back)) === cell,
    adds: cosine * norms(own)[cell] * norms(other)[found] * pair.scale,
  };
}

/** Returns what a point adds to the similarity; of a fine map, what the cell does that it lies in. */
function valueAt(point) {
  const { grid, map } = images[point.image].own;
  if (grid === images[point.image].fine) return map[cellAt(point, grid)];
  return cellsAt(point, grid).reduce((sum, [u, share]) => sum + share * map[u], 0);
}
