// What can be saved: numbers and a picture.

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function rowsOf(map, { columns }) {
  return (
    map &&
    Array.from({ length: map.length / columns }, (_, y) =>
      Array.from(map.subarray(y * columns, (y + 1) * columns)),
    )
  );
}

/** Returns what is shown as plain numbers; undefined similarities are null. */
function numbers() {
  const { point, regions, cover, ...settings } = structuredClone(state),
    some = regions.some(Boolean);
  const plain = (value) => (Number.isFinite(value) ? value : null);
  return {
    similarity: plain(pair.similarity),
    whole_similarity: plain(whole.similarity),
    estimate: some && cover,
    network: DATA.network,
    settings,
    images: images.map(({ name, width, height }) => ({ name, width, height })),
    point: point && {
      ...point,
      image: point.image + 1,
      value: valueAt(point),
      share: plain(valueAt(point) / pair.similarity),
      match: mate && { ...mate, image: mate.image + 1 },
    },
    region1: regions[0],
    region2: regions[1],
    ranges: images.map(({ range }) => [range.low, range.high]),
  };
}

function maps() {
  return Object.fromEntries(
    images.flatMap((image, i) => [
      [`similarity${i + 1}`, rowsOf(image.own.map, image.own.grid)],
      [`match${i + 1}`, rowsOf(image.match, image)],
    ]),
  );
}

function saveNumbers() {
  const text = JSON.stringify({ ...numbers(), ...maps() }, null, 1);
  download(new Blob([text], { type: "application/json" }), "similarity.json");
}

/** Draws what is seen: the similarity, and both images with maps, marks and bars. */
function savePicture() {
  const height = Math.max(320, ...images.map(({ heat }) => heat.height));
  const widths = images.map(({ heat }) =>
    Math.max(160, Math.round((heat.width * height) / heat.height)),
  );
  const margin = 24,
    top = 104;
  const canvas = document.createElement("canvas");
  canvas.width = widths[0] + widths[1] + 3 * margin;
  canvas.height = top + height + 100;
  const g = canvas.getContext("2d");
  g.fillStyle = "#fff";
  g.fillRect(0, 0, canvas.width, canvas.height);
  const say = (text, x, y, room, size = 14, align = "left", colour = "#1c1c1e") => {
    g.font = `${size}px system-ui, sans-serif`;
    g.textAlign = align;
    g.fillStyle = colour;
    g.fillText(text, x, y, room);
  };
  const wide = canvas.width - 2 * margin;
  const similarity = similarityWords();
  say(similarity, margin, 50, wide, 36);
  const after = margin + g.measureText(similarity).width + 16;
  say($("meaning").textContent, after, 36, canvas.width - margin - after);
  if (state.point)
    say($("place").textContent, after, 56, canvas.width - margin - after, 14, "left", "#5c5b60");
  let x = margin;
  images.forEach((image, i) => {
    const width = widths[i];
    say(`Image ${i + 1}  ${image.name}`, x, top - 12, width);
    g.drawImage(image.img, x, top, width, height);
    g.globalAlpha = state.opacity;
    g.drawImage(image.heat, x, top, width, height);
    g.globalAlpha = 1;
    g.drawImage(image.bar, x, top + height + 12, width, 10);
    if (state.regions[i] === "mask") g.drawImage(image.maskCanvas, x, top, width, height);
    drawMarks(g, i, x, top, width / image.width, height / image.height);
    const line = top + height + 42;
    say(fine(image.range.low, image.range), x, line, width / 4);
    say(image.what.textContent, x + width / 2, line, width / 2, 14, "center", "#5c5b60");
    say(fine(image.range.high, image.range), x + width, line, width / 4, 14, "right");
    x += width + margin;
  });
  say(networkWords(), margin, canvas.height - 24, wide, 14, "left", "#5c5b60");
  // toBlob() would wait until the browser is idle, for seconds
  const bytes = decodeBase64(canvas.toDataURL("image/png").split(",")[1]);
  download(new Blob([bytes], { type: "image/png" }), "similarity.png");
}

function drawMarks(g, i, left, top, across, down) {
  const region = state.regions[i],
    { point } = state;
  const twice = (path) => {
    for (const [colour, width] of [
      ["#000", 4],
      ["#fff", 2],
    ]) {
      g.beginPath();
      path();
      g.strokeStyle = colour;
      g.lineWidth = width;
      g.stroke();
    }
  };
  if (Array.isArray(region)) {
    const [x0, y0, x1, y1] = region;
    const box = [left + x0 * across, top + y0 * down, (x1 - x0) * across, (y1 - y0) * down];
    g.fillStyle = GREY;
    if (state.cover) g.fillRect(...box);
    twice(() => g.rect(...box));
  }
  if (point?.image === i) {
    const x = left + (point.x + 0.5) * across,
      y = top + (point.y + 0.5) * down;
    twice(() => g.arc(x, y, 8, 0, 2 * Math.PI));
  }
  if (mate?.image === i) {
    const { width, height, rows, columns } = images[i],
      [rx, ry] = [(width / columns / 2) * across, (height / rows / 2) * down];
    const x = left + (2 * mate.x + 1) * rx,
      y = top + (2 * mate.y + 1) * ry;
    if (!mate.mutual) g.setLineDash([6, 5]);
    twice(() => g.ellipse(x, y, rx - 2, ry - 2, 0, 0, 2 * Math.PI));
    g.setLineDash([]);
  }
}
