// The explorer's state, and how the page starts: read this file first, and then method.js.  All files
// share one script, in which this one comes last.

const CHANNELS = DATA.images[0].channels;
const COLOUR_BLIND_SAFE = ["viridis", "cividis"];
const GREY = "#808080"; // of what is covered

const UNIFORM_SHARES = 3; // of the absolute range, as in overlay.py

// All that the user can change. A point is {image, x, y, pinned} and a region a box [x0, y0, x1, y1],
// in pixels of the original images, as for the program's --point and --region, or "mask", the one that
// the page came with.
const state = { ...structuredClone(DATA.settings), cover: false };
let marking = false; // whether the next drag of a finger marks a region

// Each image's data with its elements, and what was last computed and drawn of it.
let images = [];
let kernel = null; // (C, D) of a head after maximum or GeM pooling
let pair = null; // what the state amounts to, see compare()
let whole = null; // and what the whole images do
let mate = null; // the cell that the pointed one matches, see nearest()

/** Returns the Float32Array of what Python packed: gzip of its bytes by place, without the lowest. */
async function unpack(text) {
  if (!text) return null;
  const stream = new Blob([decodeBase64(text)])
    .stream()
    .pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()),
    size = bytes.length / 3;
  const words = new Uint32Array(size);
  for (let k = 0; k < size; k++)
    words[k] = (bytes[k] << 8) | (bytes[k + size] << 16) | (bytes[k + 2 * size] << 24);
  return new Float32Array(words.buffer);
}

/** Returns {weights, inside, edge}: of the cells, which pixels are in the mask, and 2, 1 or 0 around it. */
async function startMask({ weights, uri }, canvas, width, height) {
  const img = new Image();
  img.src = uri;
  await img.decode();
  Object.assign(canvas, { width, height });
  const g = canvas.getContext("2d", { willReadFrequently: true });
  g.drawImage(img, 0, 0, width, height);
  const { data } = g.getImageData(0, 0, width, height),
    inside = new Uint8Array(width * height),
    edge = inside.slice();
  for (let k = 0; k < inside.length; k++) inside[k] = data[4 * k] > 127;
  const within = (x, y) => x >= 0 && x < width && y >= 0 && y < height && inside[y * width + x] > 0;
  const border = (x, y) =>
    within(x, y) && !(within(x - 1, y) && within(x + 1, y) && within(x, y - 1) && within(x, y + 1));
  const outline = (reach, value) => {
    for (let k = 0; k < inside.length; k++) {
      const [x, y] = [k % width, Math.floor(k / width)];
      if (!border(x, y)) continue;
      const [left, right] = [Math.max(0, x - reach), Math.min(width, x + reach + 1)];
      for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v++) {
        edge.fill(value, v * width + left, v * width + right);
      }
    }
  };
  outline(4, 1);
  outline(2, 2);
  return { weights, inside, edge };
}

async function startImage(data, i) {
  const figure = $("figure").content.cloneNode(true).firstElementChild;
  const find = (name) => figure.querySelector(name);
  const image = { ...data, memory: {}, match: null, drag: null, anchor: null, fine: null };
  for (const name of [
    "stage",
    "box",
    "ring",
    "there",
    "heat",
    "bar",
    "zero",
    "what",
    "low",
    "high",
  ])
    image[name] = find(`.${name}`);
  image.maskCanvas = find("canvas.mask");
  image.img = find("img");
  find(".number").textContent = `Image ${i + 1}`;
  find(".name").textContent = find(".name").title = data.name;
  image.stage.setAttribute("aria-label", `Image ${i + 1}: ${data.name}`);
  figure.style.setProperty("--ratio", data.width / data.height);
  $("pair").append(figure);

  image.img.src = data.uri;
  const unpacking = ["values", "projected", "bias"].map(async (name) => {
    image[name] = await unpack(data[name]);
  });
  await Promise.all([image.img.decode(), ...unpacking]);
  const { naturalWidth: w, naturalHeight: h } = image.img;
  const shrunk = w < data.width || h < data.height;
  const shown = shrunk ? `, shown at ${w} × ${h}` : "";
  find(".size").textContent = `${data.width} × ${data.height}${shown}`;
  Object.assign(image.heat, { width: w, height: h });
  image.pixels = image.heat.getContext("2d").createImageData(w, h);
  if (DATA.fine) {
    const { rows, columns, values } = DATA.fine[i];
    const map = Float64Array.from(await unpack(values));
    image.fine = { ...image, rows, columns, map };
  }
  for (const grid of [image, image.fine].filter(Boolean)) Object.assign(grid, interpolations(grid));
  if (data.mask) image.mask = await startMask(data.mask, image.maskCanvas, w, h);
  image.cursor = { x: data.width >> 1, y: data.height >> 1 };
  return image;
}

async function start() {
  $("network").textContent = DATA.network;
  document.title = `${DATA.images[0].name} and ${DATA.images[1].name}: why similar?`;
  images = await Promise.all(DATA.images.map(startImage));
  kernel = await unpack(DATA.head?.kernel);
  startControls();
  images.forEach(listenToPointer);
  images.forEach(listenToKeys);
  update();
  paint();
  write();
  // for tests and the console, to read
  window.explorer = Object.freeze({ state: numbers, maps });
}

start().catch((error) => {
  $("failure").textContent =
    `The page could not be started, perhaps because this browser is too old: ${error.message}`;
  $("failure").hidden = false;
  throw error;
});
