// The words and numbers around the images.

/** Returns a value with as many digits as its map's range deserves. */
function fine(value, { low, high }) {
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return number(value, clamp(2 - Math.floor(Math.log10(size)), 2, 12));
}

/** Returns the similarity as it stands on the page. */
function similarityWords() {
  const estimated = state.cover && state.regions.some(Boolean);
  return `${estimated ? "≈ " : ""}${number(pair.similarity)}`;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function write() {
  const { point, regions, cover } = state,
    some = regions.some(Boolean);
  setText($("cosine"), number(pair.similarity));
  $("similarity").classList.toggle("estimated", some && cover);
  setText($("meaning"), meaning());
  setText(
    $("place"),
    !point
      ? "Point at a place to see what it matches. Drag a box to compare a region."
      : `Pixel ${point.x}, ${point.y} of image ${point.image + 1} adds ${fine(valueAt(point), images[point.image].range)} per cell${ofGrid(images[point.image].own.grid)}` +
          (pair.similarity
            ? `, ${number((100 * valueAt(point)) / pair.similarity, 1)} % of it.`
            : ".") +
          mateWords(),
  );
  for (const image of images) {
    const { match, range, what, low, high, zero } = image;
    setText(low, fine(range.low, range));
    setText(high, fine(range.high, range));
    zero.hidden = !(range.low < 0 && range.high > 0);
    zero.style.left = `${(-100 * range.low) / (range.high - range.low)}%`;
    setText(
      what,
      match
        ? `adds with the point in image ${point.image + 1}${ofGrid(image, ", per cell")}`
        : `adds to the similarity, per cell${ofGrid(image.own.grid)}`,
    );
  }
  setText($("grain"), grainWords());
  $("clear").disabled = !some && !point;
  $("cover").disabled = !some;
  $("estimate").hidden = !cover;
  $("cover").setAttribute("aria-pressed", cover);
  $("cells").setAttribute("aria-pressed", state.cells);
}

const gridWords = ({ rows, columns }) => `${rows}\u00a0×\u00a0${columns}`; // on one line

/** Says of which grid a cell is, if there are two. */
const ofGrid = (grid, before = "") => (DATA.fine ? `${before} of ${gridWords(grid)}` : "");

/** Says what is shown at the grain of the page's own maps although the fine one is chosen. */
function grainWords() {
  if (!DATA.fine || state.grain === "coarse") return "";
  return `${isFine() ? "A point’s match is of" : "Of this, the page has only"} ${gridWords(images[0])}.`;
}

/** Says what the pointed cell matches, and how sure that is. */
function mateWords() {
  if (!mate) return "";
  const adds = fine(mate.adds, { low: 0, high: mate.adds }),
    sure = mate.mutual ? "mutual" : "not mutual, so unsure";
  return ` Its match${ofGrid(images[mate.image], ",")}: cosine ${number(mate.cosine, 2)}, ${sure}, adds ${adds}.`;
}

/** Says which network was asked, and what of it is explained. */
function networkWords() {
  const { explain, power } = state,
    pooling = explain === "head" ? DATA.head.pooling : explain;
  const words = {
    average: "average pooling",
    max: "maximum pooling",
    gem: `GeM pooling of power ${power}`,
  }[pooling];
  return `${DATA.network ? `${DATA.network}, ` : ""}${words}${explain === "head" ? " and linear head" : ""}`;
}

/** Says what the similarity is of, in so few words that they fit into two lines on a phone. */
function meaning() {
  const { regions, cover } = state,
    [one, two] = regions,
    defined = Number.isFinite(pair.similarity);
  if (!one && !two)
    return defined
      ? "cosine similarity of the two images"
      : "undefined: an image’s embedding is zero";
  if (!defined)
    return cover
      ? "undefined: nothing is left to compare"
      : "undefined: a region’s embedding is zero";
  const wholes = number(whole.similarity),
    which = one && two ? "the two regions" : `image ${one ? 1 : 2}’s region`;
  if (cover) return `estimated similarity with ${which} covered; uncovered: ${wholes}`;
  return `similarity of ${which}${one && two ? "" : ` to image ${one ? 2 : 1}`}; whole images: ${wholes}`;
}

let speaking = 0;

/** Shows a change and, once it has settled, tells it to screen readers; hovering only shows. */
function showAndSay() {
  show();
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const place = state.point ? ` ${$("place").textContent}` : "";
    const grid = DATA.fine ? ` ${gridWords(images[0].own.grid)} cells.` : "";
    $("live").textContent = `${similarityWords()} ${$("meaning").textContent}${grid}${place}`;
  }, 500);
}
