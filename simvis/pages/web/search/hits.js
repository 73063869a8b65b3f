// The hits: cards with their maps, what was judged of them, and what they open.

const HEAT = 320; // pixels of a map's longer side, at the most

let cards = []; // of the last ranking
let opener = null; // the button that opened the dialog

function showHits({ hits, words, searched, line }) {
  cards = hits.map((hit, i) => ({ ...hit, rank: i + 1, map: null, copies: [] }));
  for (const card of cards) card.element = elementOf(card);
  $("words").textContent = words;
  $("cards").replaceChildren(...cards.map(({ element }) => element));
  cards.find(({ usual }) => usual)?.element.before(make("li", "line small muted", line));
  for (const card of cards) fold(card, [card.same]);
  say(`${cards.length} hits among ${searched} images.`);
  showVerdicts();
}

function elementOf(card) {
  const thumb = make("button", "thumb"),
    shown = make("span", "picture", imageOf(`/picture/${card.row}`)),
    element = make("li", "card waiting", thumb);
  shown.style.setProperty("--ratio", card.width / card.height);
  thumb.append(shown);
  thumb.type = "button";
  thumb.setAttribute("aria-label", `${card.rank}. ${card.path}: open the explorer`);
  thumb.addEventListener("click", () => pressed || openExplorer(card, thumb));
  listenToFinger(thumb);
  const name = make("bdi", "name", card.path);
  name.title = card.path;
  const head = make("p", "head", make("span", "rank small muted", String(card.rank)));
  head.append(make("span", "similarity", number(card.similarity)));
  const notes = [card.label && `label ${card.label}`, card.unusual].filter(Boolean);
  element.append(head, name, ...notes.map((note) => make("p", "note small muted", note)));
  element.append(make("p", "copies note small muted"), verdictOf(card));
  element.dataset.path = card.path;
  return element;
}

/** Folds cards of one picture into the first of them, which says how many there are. */
function fold(card, rows) {
  const same = [card, ...cards.filter(({ row }) => rows.includes(row) && row !== card.row)];
  const [first, ...others] = same.sort((a, b) => a.rank - b.rank);
  for (const other of others) {
    if (other.element.hidden) continue;
    other.element.hidden = true;
    first.copies.push(other.path, ...other.copies);
    const count = first.copies.length,
      words = `${count} ${count > 1 ? "copies" : "copy"}: ${first.copies.join(", ")}`;
    first.element.querySelector(".copies").textContent = words;
  }
}

function verdictOf(card) {
  const button = (words, verdict, act) => {
    const made = make("button", verdict, words);
    made.type = "button";
    made.setAttribute("aria-label", `${words}: ${card.path}`);
    made.addEventListener("click", act);
    return made;
  };
  const judge = (verdict) => () => {
    const { verdicts } = asked;
    if (verdicts.get(card.row) === verdict) verdicts.delete(card.row);
    else verdicts.set(card.row, verdict);
    showVerdicts();
  };
  return make(
    "div",
    "verdict",
    button("Right", "right", judge("right")),
    button("Wrong", "wrong", judge("wrong")),
    button("Search with this", "with", () => goTo({ ...subjectOf(card) })),
  );
}

const subjectOf = ({ row, path, width, height }) => ({ row, name: path, width, height });

function showVerdicts() {
  for (const { element, row } of cards)
    for (const verdict of ["right", "wrong"])
      element
        .querySelector(`.${verdict}`)
        .setAttribute("aria-pressed", asked.verdicts.get(row) === verdict);
  $("again").disabled = !asked.verdicts.size;
}

/** Searches for more like the right ones, and not like the wrong ones. */
function searchAgain() {
  const of = (verdict) =>
    [...asked.verdicts].filter(([, its]) => its === verdict).map(([row]) => row);
  const { photo, row, name, width, height, file, marks, verdicts } = asked;
  const same = { photo, row, name, width, height, file, marks: [...marks] };
  goTo({ ...same, verdicts: new Map(verdicts), like: of("right"), unlike: of("wrong") });
}

// --- maps -----------------------------------------------------------------------------------------

function showMap(card, { similarity, note, box, map, same = [] }) {
  const { element } = card,
    picture = element.querySelector(".picture");
  element.classList.remove("waiting");
  if (Number.isFinite(similarity))
    element.querySelector(".similarity").textContent = number(similarity);
  if (note) element.querySelector(".verdict").before(make("p", "said note small muted", note));
  fold(card, same);
  if (!map) return;
  const scale = HEAT / Math.max(card.width, card.height);
  const heat = make("canvas", "overlay");
  heat.width = Math.max(1, Math.round(card.width * scale));
  heat.height = Math.max(1, Math.round(card.height * scale));
  const { smooth } = interpolations({ ...map, heat });
  const values = interpolate(map.values, map.columns, heat.width, heat.height, smooth);
  card.map = { heat, values, low: Math.min(...map.values), high: Math.max(...map.values) };
  paint(card);
  picture.append(heat);
  if (box) picture.append(boxOf(box, card));
}

function paint({ map }) {
  const name = $("colormap").value;
  if (!map || !name) return;
  const { heat, values } = map,
    g = heat.getContext("2d"),
    pixels = g.createImageData(heat.width, heat.height);
  colour(values, map, coloursOf(DATA.colormaps[name]), pixels);
  for (let k = 3; k < pixels.data.length; k += 4) pixels.data[k] = 128; // half of it the image
  g.putImageData(pixels, 0, 0);
}

// --- what opens, and what is kept -----------------------------------------------------------------

/** Opens the explorer of the query and a hit, which is made now. */
async function openExplorer(card, thumb) {
  opener = thumb;
  $("opened").replaceChildren(make("bdi", "opened", card.path));
  $("stage").replaceChildren(make("p", "muted", "The explorer is being made …"));
  $("dialog").showModal();
  $("dialog").focus();
  try {
    const found = await again(() => post("/explore", { ...answered, hit: card.row }));
    const frame = frameOf(card.path, await found.json(), () => $("dialog").close());
    if ($("dialog").open && opener === thumb) $("stage").replaceChildren(frame);
  } catch (error) {
    $("stage").replaceChildren(make("p", "", error.message));
  }
}

async function saveReport() {
  const button = $("report"),
    words = button.textContent;
  Object.assign(button, { disabled: true, textContent: "Making it …" });
  try {
    const found = await again(() => post("/report", answered));
    const link = make("a", "");
    link.href = URL.createObjectURL(await found.blob());
    link.download = `${asked.name.replace(/^.*[/\\]|\.\w+$/g, "")}_report.zip`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    succeed();
    say("The report is saved.");
  } catch (error) {
    fail(error, saveReport);
  } finally {
    Object.assign(button, { disabled: false, textContent: words });
  }
}

function startHits() {
  for (const name of Object.keys(DATA.colormaps)) $("colormap").append(new Option(name));
  $("colormap").value = "jet";
  $("colormap").addEventListener("input", () => {
    document.body.classList.toggle("uncoloured", !$("colormap").value);
    cards.forEach(paint);
  });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["top", "label", "not-label"]) $(id).addEventListener("change", search);
  for (const name of DATA.labels) $("labels").append(new Option(name));
  for (const part of document.querySelectorAll(".of-labels")) part.hidden = !DATA.labels.length;
  $("fine").hidden = !DATA.fine;
  $("fine").addEventListener("click", () => {
    const on = $("fine").getAttribute("aria-pressed") !== "true";
    $("fine").setAttribute("aria-pressed", on);
    search();
  });
  $("overlays").addEventListener("click", () => {
    $("overlays").setAttribute("aria-pressed", document.body.classList.toggle("overlays"));
  });
  $("again").addEventListener("click", searchAgain);
  $("report").addEventListener("click", saveReport);
  $("close").addEventListener("click", () => $("dialog").close());
  $("dialog").addEventListener("click", ({ target }) => target === $("dialog") && target.close());
  $("dialog").addEventListener("close", () => {
    $("stage").replaceChildren();
    opener?.focus();
  });
}
