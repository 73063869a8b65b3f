// A map over its image: its values between the cells, and their colours.

function decodeBase64(text) {
  const letters = atob(text),
    bytes = new Uint8Array(letters.length);
  for (let k = 0; k < letters.length; k++) bytes[k] = letters.charCodeAt(k);
  return bytes;
}

/** Returns the cells before and after a position, and the share of the second. */
function neighbours(position, size) {
  position = Math.min(Math.max(position, 0), size - 1);
  const before = Math.min(Math.floor(position), Math.max(size - 2, 0));
  return [before, Math.min(before + 1, size - 1), position - before];
}

/** Returns between which cells the pixels of the rows and columns lie. */
function places({ rows, columns, heat: { width, height } }, cellOf) {
  const down = Array.from({ length: height }, (_, y) => neighbours(cellOf(y, rows, height), rows));
  const across = Array.from({ length: width }, (_, x) =>
    neighbours(cellOf(x, columns, width), columns),
  );
  return {
    down,
    across: {
      before: Int32Array.from(across, (cells) => cells[0]),
      after: Int32Array.from(across, (cells) => cells[1]),
      share: Float64Array.from(across, (cells) => cells[2]),
    },
  };
}

/** Returns what brings an image's map to its canvas: smoothly, and by blocks, which are its cells. */
function interpolations(image) {
  const centre = (pixel, cells, pixels) => ((pixel + 0.5) * cells) / pixels;
  return {
    smooth: places(image, (...at) => centre(...at) - 0.5),
    blocks: places(image, (...at) => Math.floor(centre(...at))),
  };
}

/** Returns a map's values at the pixels of a canvas. */
function interpolate(map, columns, width, height, { down, across }) {
  const values = new Float32Array(width * height),
    line = new Float64Array(columns);
  let k = 0;
  for (let y = 0; y < height; y++) {
    const [top, bottom, share] = down[y];
    for (let x = 0; x < columns; x++) {
      line[x] =
        map[top * columns + x] + share * (map[bottom * columns + x] - map[top * columns + x]);
    }
    for (let x = 0; x < width; x++) {
      const left = line[across.before[x]];
      values[k++] = left + across.share[x] * (line[across.after[x]] - left);
    }
  }
  return values;
}

/** Gives the pixels of an ImageData the colours of their values. */
function colour(values, { low, high }, colours, pixels) {
  const words = new Uint32Array(pixels.data.buffer),
    factor = high > low ? 256 / (high - low) : 0,
    offset = factor ? 0 : 128; // flat: the middle
  for (let k = 0; k < words.length; k++) {
    const index = (values[k] - low) * factor + offset;
    words[k] = colours[index > 255 ? 255 : index < 0 ? 0 : index | 0];
  }
}

/** Returns a colormap's 256 colours, which came in base64, as the words of an ImageData. */
function coloursOf(text) {
  const bytes = decodeBase64(text),
    rgba = new Uint8ClampedArray(1024).fill(255);
  for (let k = 0; k < 256; k++) rgba.set(bytes.subarray(3 * k, 3 * k + 3), 4 * k);
  return new Uint32Array(rgba.buffer);
}
