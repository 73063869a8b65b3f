// The page of cards: what it shows, and the dialog in which a card's explorer or picture opens.

const failed = ({ similarity }) => similarity === undefined;

const ORDERS = {
  best: (a, b) => a.rank - b.rank,
  worst: (a, b) => failed(a) - failed(b) || b.rank - a.rank, // what failed is last
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }) || a.rank - b.rank,
};

let cards = []; // each with its element, in the order that is shown
let opened = null; // the card that is in the dialog

// --- cards ----------------------------------------------------------------------------------------

const canShow = ({ image, picture }) => Boolean(image || picture);
const canOpen = ({ pair, picture }) => Boolean(pair || picture);

/** Returns what is said of a card: its rank and similarity, its name, and notes. */
function headOf({ rank, similarity }) {
  const parts = [];
  if (rank && Number.isFinite(similarity))
    parts.push(make("span", "rank small muted", String(rank)));
  if (Number.isFinite(similarity)) parts.push(make("span", "similarity", number(similarity)));
  return parts;
}

function wordsOf(card) {
  const name = make("bdi", "name", card.name),
    head = headOf(card);
  name.title = card.name;
  return [
    ...(head.length ? [make("p", "head", ...head)] : []),
    name,
    ...card.notes.map((note) => make("p", "note small muted", note)),
  ];
}

/** Returns a card's image under its overlay and its box, which opens it if there is what to open. */
function thumbOf(card) {
  const { image, overlay, box, picture, name } = card;
  const active = canOpen(card) || overlay,
    thumb = make(active ? "button" : "div", "thumb");
  if (!canShow(card)) {
    thumb.append(make("span", "none small muted", "no picture"));
    return thumb;
  }
  const shown = make("span", "picture"),
    plain = imageOf(image ? image.uri : picture);
  shown.append(plain);
  if (image) shown.style.setProperty("--ratio", image.width / image.height);
  else
    plain.addEventListener("load", () =>
      shown.style.setProperty("--ratio", plain.naturalWidth / plain.naturalHeight),
    );
  if (overlay) shown.append(imageOf(overlay, "overlay"));
  if (box) shown.append(boxOf(box, image));
  thumb.append(shown);
  if (active) {
    thumb.type = "button";
    const rank = card.rank ? `${card.rank}. ` : "",
      what = canOpen(card) ? "open" : "show the overlay";
    thumb.setAttribute("aria-label", `${rank}${name}: ${what}`);
    thumb.addEventListener("click", () => click(card, thumb));
    listenToFinger(thumb);
  } else plain.alt = name;
  return thumb;
}

/** Orders the cards, which keep what was loaded of them, and hides those of other groups. */
function order(by, group = "") {
  cards.sort(ORDERS[by]);
  $("cards").append(...cards.map(({ element }) => element));
  for (const card of cards) card.element.hidden = Boolean(group && card.group !== group);
  $("cards").querySelector(".line")?.remove();
  if (DATA.line && by === "best" && DATA.line[0] < cards.length)
    cards[DATA.line[0]].element.before(make("li", "line small muted", DATA.line[1]));
}

function tableOf([title, names, rows], i) {
  const row = (cell, values) => make("tr", "", ...values.map((value) => make(cell, "", value)));
  const table = make("table", "", row("th", names), ...rows.map((values) => row("td", values)));
  const inside = make("div", "rows", table);
  Object.assign(inside, { tabIndex: 0, ariaLabel: title });
  inside.setAttribute("role", "region");
  const details = make("details", "", make("summary", "", title), inside);
  details.open = i === 0;
  return details;
}

/** Offers each group of cards to be shown alone. */
function offerGroups() {
  const counts = new Map([["", cards.length]]);
  for (const { group } of cards) if (group) counts.set(group, (counts.get(group) ?? 0) + 1);
  $("groups").hidden = counts.size < 3;
  for (const [group, count] of counts) {
    const input = make("input", "");
    Object.assign(input, { type: "radio", name: "group", value: group, checked: !group });
    const label = make("label", "", input, `${group || "all"} ${count}`);
    $("groups").querySelector(".choice").append(label);
  }
  return counts.size > 1;
}

// --- hands ----------------------------------------------------------------------------------------

function click(card, thumb) {
  if (pressed) return;
  if (canOpen(card)) open(card);
  else thumb.classList.toggle("held");
}

/** Moves the focus by the arrow keys, over cards that cannot take it. */
function listenToKeys() {
  $("cards").addEventListener("keydown", (event) => {
    pressed = false;
    const columns = getComputedStyle($("cards")).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    let i = cards.findIndex(({ element }) => element.contains(event.target));
    do i += step;
    while (cards[i] && (cards[i].element.hidden || !focusOn(cards[i])));
  });
}

/** Returns whether a card takes the focus. */
function focusOn({ element }) {
  const button = element.querySelector("button");
  button?.focus();
  return Boolean(button);
}

// --- the dialog -----------------------------------------------------------------------------------

/** Opens a card's explorer, or its picture, in the dialog. */
function open(card) {
  opened = card;
  const name = make("bdi", "opened", card.name);
  $("opened").replaceChildren(...headOf(card), name);
  $("stage").replaceChildren(card.pair ? frameOfCard(card) : imageOf(card.picture));
  $("stage").firstChild.alt = card.name;
  if ($("dialog").open) return;
  $("dialog").showModal();
  $("dialog").focus();
}

function frameOfCard(card) {
  // the first pair has all, others what is not the same
  const { image1, image2, ...rest } = { ...DATA.cards.find(({ pair }) => pair).pair, ...card.pair };
  return frameOf(card.name, { images: [image1, image2], ...rest }, () => $("dialog").close());
}

/** Opens the next card that can be, or the previous one. */
function go(step) {
  const some = cards.filter((card) => canOpen(card) && !card.element.hidden);
  open(some[(some.indexOf(opened) + step + some.length) % some.length]);
}

function startDialog() {
  const dialog = $("dialog");
  $("previous").hidden = $("next").hidden = cards.filter(canOpen).length < 2;
  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", ({ key, ctrlKey, altKey, metaKey }) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (step && !ctrlKey && !altKey && !metaKey) go(step);
  });
  dialog.addEventListener("close", () => {
    $("stage").replaceChildren();
    focusOn(opened);
  });
}

// --- start ----------------------------------------------------------------------------------------

function start() {
  document.title = $("title").textContent = DATA.title;
  $("words").textContent = DATA.words;
  if (DATA.query) {
    $("layout").classList.add("asked");
    $("query").hidden = false;
    $("query").append(
      make("h2", "small muted", "Query"),
      thumbOf(DATA.query),
      ...wordsOf(DATA.query),
    );
  }
  const images = DATA.cards.some(({ image }) => image),
    pictures = DATA.cards.some(({ picture }) => picture);
  $("cards").className = images ? "" : pictures ? "beside" : "bare";
  cards = DATA.cards.map((card, i) => {
    card.rank ??= i + 1;
    // what failed is words alone, as all are if none has an image
    const shown = canShow(card) || (Number.isFinite(card.similarity) && (images || pictures));
    card.element = make("li", "card", ...(shown ? [thumbOf(card)] : []), ...wordsOf(card));
    return card;
  });
  $("tables").append(...DATA.tables.map(tableOf));
  if (offerGroups()) $("cards").className = "strips";
  order("best");
  const some = [DATA.query, ...cards].some((card) => card?.overlay);
  $("overlays").hidden = !some;
  $("overlays").addEventListener("click", () => {
    $("overlays").setAttribute("aria-pressed", document.body.classList.toggle("overlays"));
  });
  $("order").hidden = cards.length < 2 || cards.some(({ group }) => group);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("input", () => {
    const { order: by, group } = $("controls").elements;
    order(by.value, group.value);
  });
  listenToKeys();
  startDialog();
}

start();
