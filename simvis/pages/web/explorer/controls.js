// The controls below the images.

function startControls() {
  for (const name of Object.keys(DATA.colormaps)) {
    $(COLOUR_BLIND_SAFE.includes(name) ? "safe" : "others").append(new Option(name));
  }
  const form = $("controls");
  form.elements.explain.forEach((radio) => {
    if (radio.value === "head") radio.parentElement.hidden = !DATA.head;
    if (radio.value === "gem" && !DATA.nonnegative) {
      radio.disabled = true;
      radio.parentElement.title =
        "GeM pooling needs activations of at least 0, and some of these are negative";
    }
  });
  $("grains").hidden = !DATA.fine;
  setText($("coarse"), gridWords(images[0]));
  setText($("fine"), DATA.fine ? gridWords(DATA.fine[0]) : "");
  for (const name of ["explain", "range", "power", "colormap", "opacity", "grain"]) {
    if (name === "power") $("power").max = Math.max(10, state.power);
    form.elements[name].value = state[name];
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    chooseMiddle(form.elements);
    for (const name of ["explain", "range", "colormap", "grain"])
      state[name] = form.elements[name].value;
    for (const name of ["power", "opacity"]) state[name] = Math.round($(name).value * 100) / 100;
    showControls();
    showAndSay();
  });
  $("cover").addEventListener("click", () => {
    state.cover = !state.cover;
    showAndSay();
  });
  $("mark").addEventListener("click", () => setMarking(!marking));
  $("cells").addEventListener("click", () => {
    state.cells = !state.cells;
    showAndSay();
  });
  holdForPlain();
  $("clear").addEventListener("click", clear);
  $("savePicture").addEventListener("click", savePicture);
  $("saveNumbers").addEventListener("click", saveNumbers);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") clear();
    if (!DATA.fine || !isLetter(event, "g")) return;
    state.grain = form.elements.grain.value = state.grain === "fine" ? "coarse" : "fine";
    showAndSay();
  });
  showControls();
}

/** Chooses colours with a middle where zero is to be there, and the ones before where it is no more. */
function chooseMiddle({ range, colormap }) {
  if (range.value === state.range) return;
  if (range.value === "zero") [memory.before, colormap.value] = [colormap.value, "coolwarm"];
  else if (state.range === "zero" && memory.before && colormap.value === "coolwarm")
    colormap.value = memory.before;
}

const isLetter = ({ key, target, ctrlKey, altKey, metaKey }, letter) =>
  !(ctrlKey || altKey || metaKey) && key.toLowerCase() === letter && target.tagName !== "SELECT";

/** Shows the plain images as long as the key P or the button is held. */
function holdForPlain() {
  const plain = (on) => () => document.body.classList.toggle("plain", on);
  const button = $("plain");
  const pressing = (event) =>
    isLetter(event, "p") || (event.target === button && [" ", "Enter"].includes(event.key));
  button.addEventListener("pointerdown", plain(true));
  for (const name of ["pointerup", "pointercancel", "pointerleave", "blur"])
    button.addEventListener(name, plain(false));
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => pressing(event) && plain(true)());
  document.addEventListener("keyup", plain(false));
  window.addEventListener("blur", plain(false));
}

function showControls() {
  const { explain, power, opacity, colormap } = state;
  $("powers").hidden = !hasPower(state);
  setText($("powerValue"), String(power));
  setText($("opacityValue"), `${Math.round(100 * opacity)} %`);
  setText(
    $("explained"),
    {
      average: "The mean of each channel.",
      max: "The maximum of each channel, shared by the places that tie for it.",
      gem: "The generalised mean: between average and maximum, by its power.",
      head: `The network’s output: ${DATA.head?.dimensions} numbers, from a linear head after the pooling.`,
    }[explain] + (DATA.nonnegative ? "" : " GeM is not for these activations: some are negative."),
  );
  const colours = colourTable(colormap);
  for (const { bar } of images) {
    const pixels = new ImageData(256, 1);
    new Uint32Array(pixels.data.buffer).set(colours);
    bar.getContext("2d").putImageData(pixels, 0, 0);
  }
}
