// From the state to the screen.

/** Returns compute(), or what it returned the last time where the key is the same. */
function remember(memory, name, key, compute) {
  if (memory[name]?.key !== key) memory[name] = { key, value: compute() };
  return memory[name].value;
}

const memory = {};

function update() {
  const { explain, power } = state;
  const pooled = (part) =>
    images.map((image, i) => {
      const box = part ? state.regions[i] : null;
      return remember(
        image.memory,
        part && box ? "part" : "whole",
        String([explain, power, box, box && state.cover]),
        () => {
          let weights = new Float64Array(image.rows * image.columns).fill(1);
          if (box)
            weights =
              box === "mask" ? Float64Array.from(image.mask.weights) : boxWeights(box, image);
          // a cell that is covered wholly takes no part, not even by what rounding leaves of it
          if (box && state.cover) weights = weights.map((w) => (w > 1 - 1e-12 ? 0 : 1 - w));
          return pool(image, explain, power, weights);
        },
      );
    });
  whole = remember(memory, "whole", String([explain, power]), () => compare(pooled(false)));
  const part = JSON.stringify([explain, power, state.regions, state.cover]);
  pair = remember(memory, "pair", part, () =>
    state.regions.some(Boolean) ? compare(pooled(true)) : whole,
  );
  images.forEach((image, i) => {
    image.own = isFine()
      ? { grid: image.fine, map: image.fine.map }
      : { grid: image, map: pair.maps[i] };
  });
  mate = state.point && nearest(state.point);
}

const hasPower = ({ explain }) =>
  explain === "gem" || (explain === "head" && DATA.head.pooling === "gem");

/** Returns what the maps depend on, as text; fine ones are of what the page began with. */
const asked = ({ explain, power, regions, cover }) =>
  JSON.stringify([explain, hasPower({ explain }) && power, regions, cover]);

const isFine = () =>
  state.grain === "fine" && asked(state) === asked({ ...DATA.settings, cover: false });

let waiting = false; // for the next frame

/** Shows the state with the next frame, however often it changes until then. */
function show() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    update();
    paint();
    write();
  });
}

function paint() {
  const { point } = state;
  const own = images.map((image) => {
    const { memory: known } = image;
    if (known.cells !== state.cells) Object.assign(known, { cells: state.cells, own: null });
    const { map, grid } = image.own;
    return remember(known, "own", map, () => upsample(map, grid));
  });
  images.forEach((image, i) => {
    image.match = point && point.image !== i ? match(point) : null;
    const shown = image.match ? upsample(image.match, image) : own[i];
    // a match is a small part of the map and keeps a range of its own
    const [one, two] = pair.pooled.map(({ cells }) => cells),
      parts = image.own.map.length / pair.maps[i].length; // of a cell
    image.range = image.match
      ? rangeOf([shown], one * two, shown)
      : rangeOf(own, [one, two][i] * parts, shown);
    const { low, high } = image.range;
    remember(image.memory, "painted", [shown.id, low, high, state.colormap].join(), () =>
      colourize(shown, image),
    );
    image.heat.style.opacity = state.opacity;
    placeMarks(image, i);
  });
}

/** Returns the values that get the colours' ends, of maps that may share them; see overlay.py. */
function rangeOf(maps, cells, { low, high }) {
  const lows = maps.map((map) => map.low),
    highs = maps.map((map) => map.high);
  const reach = Math.max(...highs, ...lows.map((value) => -value));
  return {
    each: { low, high },
    pair: { low: Math.min(...lows), high: Math.max(...highs) },
    zero: { low: -reach, high: reach },
    absolute: { low: 0, high: UNIFORM_SHARES / cells },
  }[state.range];
}

let upsamplings = 0;

/** Returns a map's values at the canvas's pixels: cells' values at their centres, border continued.
 *
 *  Its lowest and highest values are the cells', which no place between them leaves. */
function upsample(map, { columns, heat: { width, height }, smooth, blocks }) {
  const values = interpolate(map, columns, width, height, state.cells ? blocks : smooth);
  return { id: ++upsamplings, values, low: Math.min(...map), high: Math.max(...map) };
}

function colourize({ values }, { heat, pixels, range }) {
  colour(values, range, colourTable(state.colormap), pixels);
  heat.getContext("2d").putImageData(pixels, 0, 0);
}

function colourTable(name) {
  return remember(memory, `colours ${name}`, "", () => coloursOf(DATA.colormaps[name]));
}

function placeMarks({ width, height, rows, columns, ring, there, box, maskCanvas, mask }, i) {
  const { point } = state,
    region = state.regions[i];
  ring.hidden = point?.image !== i;
  if (!ring.hidden) {
    ring.style.left = `${((point.x + 0.5) / width) * 100}%`;
    ring.style.top = `${((point.y + 0.5) / height) * 100}%`;
    ring.classList.toggle("pinned", point.pinned);
  }
  there.hidden = mate?.image !== i;
  if (!there.hidden) {
    there.style.left = `${(mate.x / columns) * 100}%`;
    there.style.top = `${(mate.y / rows) * 100}%`;
    there.style.width = `${100 / columns}%`;
    there.style.height = `${100 / rows}%`;
    there.classList.toggle("unsure", !mate.mutual);
  }
  maskCanvas.hidden = region !== "mask";
  if (region === "mask") drawMask(maskCanvas, mask);
  box.hidden = !Array.isArray(region);
  if (Array.isArray(region)) {
    const [x0, y0, x1, y1] = region;
    box.style.left = `${(x0 / width) * 100}%`;
    box.style.top = `${(y0 / height) * 100}%`;
    box.style.width = `${((x1 - x0) / width) * 100}%`;
    box.style.height = `${((y1 - y0) / height) * 100}%`;
    box.classList.toggle("covered", state.cover);
  }
}

/** Draws a mask's outline, white within black, or all of it in grey if it is covered. */
function drawMask(canvas, { inside, edge }) {
  remember(
    memory,
    `mask${images.findIndex((image) => image.maskCanvas === canvas)}`,
    String(state.cover),
    () => {
      const g = canvas.getContext("2d"),
        pixels = g.createImageData(canvas.width, canvas.height);
      const words = new Uint32Array(pixels.data.buffer);
      for (let k = 0; k < words.length; k++) {
        if (inside[k]) words[k] = state.cover ? 0xff808080 : 0;
        else if (edge[k]) words[k] = edge[k] > 1 ? 0xffffffff : 0xff000000;
      }
      g.putImageData(pixels, 0, 0);
    },
  );
}
