// What the page asks the server: each question has a number, and a newer one supersedes it.

const CLIENT = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) =>
  byte.toString(16).padStart(2, "0"),
).join("");
const PATIENCE = 40; // times that a map is asked for while the network is busy

// What is searched with: a photograph that was sent or a row of the gallery, with its marks in the
// order in which they were made, and the hits that were judged. Going on from a hit begins a new one.
let asked = null;
let trail = []; // of all that was asked, for the way back
let step = -1; // in the trail
let turn = 0; // the number of the last question
let waiting = new AbortController(); // of what it waits for
let answered = null; // the question whose hits are shown

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Asks the server; returns its answer, or throws a Refusal in its words. */
async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw new Refusal("something newer was asked", 409);
    throw new Refusal("The server does not answer. It may have been ended; start it again.", 0);
  }
  if (response.ok) return response;
  const text = await response.text();
  let words = text;
  try {
    words = JSON.parse(text).error;
  } catch {
    // it is no JSON
  }
  throw new Refusal(words || `The server refused this (${response.status}).`, response.status);
}

const post = (address, question, signal = null) =>
  ask(address, { method: "POST", body: JSON.stringify(question), signal });

/** Returns what is asked now, as the server takes it. */
function question() {
  const of = (kind) => asked.marks.filter((mark) => mark.kind === kind).map(({ at }) => at);
  const { photo, row, like, unlike } = asked;
  const marks = {
    boxes: of("look"),
    points: of("point"),
    ignored: of("ignore"),
    strokes: of("brush"),
  };
  const subject = photo ? { photo } : { row };
  const typed = (id) => ($(id).value ? [$(id).value] : []);
  const set = {
    top: Number($("top").value),
    fine: $("fine").getAttribute("aria-pressed") === "true",
    label: typed("label"),
    not_label: typed("not-label"),
  };
  return { client: CLIENT, turn, ...subject, ...marks, like, unlike, ...set };
}

/** Sends a photograph, and searches with it. */
async function take(file) {
  if (file.size > DATA.most) {
    const limit = `${Math.round(DATA.most / 2 ** 20)} MB`;
    return fail(new Refusal(`${file.name} is larger than ${limit}, the limit.`));
  }
  turn += 1;
  const mine = turn;
  try {
    const sent = await send(file);
    if (mine === turn) goTo({ ...sent, row: null, name: file.name || "pasted photograph", file });
  } catch (error) {
    fail(error, () => take(file));
  }
}

async function send(file) {
  const headers = { "x-name": encodeURIComponent(file.name || "").slice(0, 600) };
  return (await ask("/photo", { method: "POST", body: file, headers })).json();
}

/** Searches with another picture, or with hits that were judged; the way back leads here. */
function goTo(next) {
  asked = { photo: null, row: null, marks: [], like: [], unlike: [], verdicts: new Map(), ...next };
  trail = [...trail.slice(0, step + 1), asked];
  step = trail.length - 1;
  history.pushState({ step }, "");
  showAsked();
  search();
}

/** Searches, shows the ranking at once, and the maps one by one. */
async function search() {
  turn += 1;
  waiting.abort();
  waiting = new AbortController();
  const mine = turn,
    sent = question(),
    isOld = () => mine !== turn;
  try {
    const found = await again(() => post("/search", sent, waiting.signal));
    if (isOld()) return;
    answered = sent;
    succeed();
    showHits(await found.json());
    $("cards").dataset.turn = mine;
    const left = [...cards]; // two at a time: while one is sent, the network works on the other
    const work = async () => {
      for (let card = left.shift(); card && !isOld(); card = left.shift())
        await explain(card, mine);
    };
    await Promise.all([work(), work()]);
    if (!isOld()) say(`${cards.length} hits, all with their maps.`);
  } catch (error) {
    if (!isOld()) fail(error, search);
  }
}

/** Asks, and sends the photograph once more if it is not kept any more. */
async function again(what) {
  try {
    return await what();
  } catch (error) {
    if (error.status !== 410 || !asked.file) throw error;
    await send(asked.file);
    return what();
  }
}

/** Asks for a hit's map, and shows it, or why it has none. */
async function explain(card, mine) {
  for (let tries = 0; mine === turn; tries++) {
    try {
      const found = await again(() => post("/map", { ...answered, hit: card.row }, waiting.signal));
      if (mine === turn) showMap(card, await found.json());
      return;
    } catch (error) {
      if (error.status === 0) throw error;
      if (error.status === 503 && tries < PATIENCE) await new Promise((go) => setTimeout(go, 500));
      else {
        if (mine === turn) showMap(card, { note: error.message });
        return;
      }
    }
  }
}

let failed = null; // what to try again

function fail(error, retry = null) {
  if (error.status === 409) return; // something newer was asked
  if (!(error instanceof Refusal)) throw error;
  failed = retry;
  $("failure").firstElementChild.textContent = error.message;
  $("retry").hidden = !retry;
  $("failure").hidden = false;
}

function succeed() {
  $("failure").hidden = true;
}

function say(words) {
  $("live").textContent = words;
}
