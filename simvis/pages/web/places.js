// Where a pointer is in an image, and what it spans.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Returns where an event is in an image, in its pixels from the top left edge. */
function positionOf(event, { stage, width, height }) {
  const { left, top, width: w, height: h } = stage.getBoundingClientRect();
  return [
    clamp((event.clientX - left) / w, 0, 1) * width,
    clamp((event.clientY - top) / h, 0, 1) * height,
  ];
}

const pixelAt = ([x, y], { width, height }) => ({
  x: Math.min(Math.floor(x), width - 1),
  y: Math.min(Math.floor(y), height - 1),
});

/** Returns the box of all pixels that two positions, a drag's ends, span. */
function boxBetween([xa, ya], [xb, yb], { width, height }) {
  const x0 = Math.min(Math.floor(Math.min(xa, xb)), width - 1),
    y0 = Math.min(Math.floor(Math.min(ya, yb)), height - 1);
  return [
    x0,
    y0,
    Math.max(Math.ceil(Math.max(xa, xb)), x0 + 1),
    Math.max(Math.ceil(Math.max(ya, yb)), y0 + 1),
  ];
}

const distance = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
