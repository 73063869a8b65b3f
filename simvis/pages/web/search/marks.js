// The picture that is searched with, and what hands of all kinds mark on it.

const REST = 150; // milliseconds after which a hand rests
const STEPS = 28; // of the keyboard, over the longer side
const BRUSH = 0.04; // its radius, of the longer side

let tool = "look";
let drag = null; // a drag that goes on: {start, from, draws, mark, timer}
let cursor = null; // of the keyboard, {x, y} in pixels
let anchor = null; // where its box begins
let resting = 0; // a timer
let marking = false; // whether the next drag of a finger marks

const stage = () => ({ stage: $("asked"), width: asked.width, height: asked.height });
const isBox = ({ kind }) => kind === "look" || kind === "ignore";

function showAsked() {
  const { photo, row, name, width, height } = asked;
  $("empty").hidden = true;
  $("asking").hidden = $("browse").hidden = false;
  $("gallery").hidden = true;
  $("found").hidden = false;
  $("back").hidden = step < 1;
  $("asked-image").src = photo ? `/photo/${photo}` : `/picture/${row}?large=1`;
  $("asked-name").textContent = $("asked-name").title = name;
  $("asked-size").textContent = `${width} × ${height}`;
  $("asked").style.setProperty("--ratio", width / height);
  $("asked").setAttribute("aria-label", `What is searched with: ${name}`);
  cursor = { x: width >> 1, y: height >> 1 };
  anchor = null;
  setMarking(false);
  showMarks();
}

function showMarks() {
  const { marks, width, height } = asked;
  const elements = marks
    .filter(({ kind }) => kind !== "brush")
    .map((mark) => {
      if (isBox(mark)) {
        const box = boxOf(mark.at, asked);
        box.classList.toggle("ignored", mark.kind === "ignore");
        return box;
      }
      return put(make("span", "ring"), mark.at);
    });
  $("marks").replaceChildren(...elements);
  put($("cursor"), [cursor.x, cursor.y]);
  $("undo").disabled = $("clear").disabled = !marks.length;
  const canvas = $("painted"),
    scale = Math.min(1, 800 / Math.max(width, height));
  Object.assign(canvas, { width: width * scale, height: height * scale });
  const g = canvas.getContext("2d");
  Object.assign(g, { strokeStyle: "#808080", lineCap: "round", lineJoin: "round" });
  for (const { at } of marks.filter(({ kind }) => kind === "brush")) {
    const [radius, x, y, ...rest] = at.map((value) => value * scale);
    g.lineWidth = 2 * radius;
    g.beginPath();
    g.moveTo(x, y);
    g.lineTo(x, y);
    for (let k = 0; k < rest.length; k += 2) g.lineTo(rest[k], rest[k + 1]);
    g.stroke();
  }
}

function put(element, [x, y]) {
  element.style.left = `${((x + 0.5) / asked.width) * 100}%`;
  element.style.top = `${((y + 0.5) / asked.height) * 100}%`;
  return element;
}

/** Shows what was marked, and searches with it: at once, or when the hand rests. */
function changed(now = true) {
  Object.assign(asked, { like: [], unlike: [] }); // the question is the picture again
  showMarks();
  clearTimeout(resting);
  const go = () => {
    resting = 0;
    search();
  };
  if (now) go();
  else resting = setTimeout(go, REST);
}

function undo() {
  if (!asked?.marks.length) return;
  asked.marks.pop();
  anchor = null;
  changed();
}

function clear() {
  if (!asked?.marks.length) return;
  asked.marks = [];
  anchor = null;
  changed();
}

function setMarking(on) {
  marking = on;
  $("mark").setAttribute("aria-pressed", on);
  $("asked").classList.toggle("marking", on || tool !== "look");
}

const brushRadius = () => Math.max(2, BRUSH * Math.max(asked.width, asked.height));

/** Begins a mark where the hand is; the tool says of which kind. */
function begin([x, y]) {
  const at = tool === "brush" ? [brushRadius(), x, y] : [x, y, x + 1, y + 1];
  asked.marks.push({ kind: tool, at });
  return asked.marks.at(-1);
}

function extend(mark, from, to) {
  if (mark.kind !== "brush") {
    mark.at = boxBetween(from, to, asked);
    return;
  }
  const [radius] = mark.at,
    [x, y] = mark.at.slice(-2);
  if (Math.hypot(to[0] - x, to[1] - y) > radius / 2) mark.at.push(...to);
}

// A mouse marks at once. A finger scrolls the page unless it has rested for a while, or is to mark.
function listenToHands() {
  const element = $("asked");
  element.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    const finger = event.pointerType === "touch";
    drag = { start: event, from: positionOf(event, stage()), mark: null };
    drag.draws = !finger || marking || tool !== "look";
    anchor = null;
    if (!finger) element.setPointerCapture(event.pointerId);
    else if (!drag.draws)
      drag.timer = setTimeout(() => {
        drag.draws = true;
        element.classList.add("marking");
      }, LONG_PRESS);
  });
  element.addEventListener("pointermove", (event) => {
    if (!event.isPrimary || !drag) return;
    drag.moved ||= distance(event, drag.start) > 5;
    if (!drag.moved) return;
    if (!drag.draws) return clearTimeout(drag.timer);
    drag.mark ??= begin(drag.from);
    extend(drag.mark, drag.from, positionOf(event, stage()));
    changed(false);
  });
  element.addEventListener("pointerup", (event) => {
    if (!event.isPrimary || !drag) return;
    const { draws, moved, mark, timer } = drag;
    clearTimeout(timer);
    drag = null;
    if (!moved) place(pixelAt(positionOf(event, stage()), asked));
    else if (mark) changed();
    if (moved ? draws : true) setMarking(false);
  });
  element.addEventListener("pointercancel", () => {
    clearTimeout(drag?.timer);
    if (drag?.mark) undo();
    drag = null;
    setMarking(false);
  });
  // once a mark is begun, the page must not scroll under it
  element.addEventListener(
    "touchmove",
    (event) => drag?.draws && event.cancelable && event.preventDefault(),
    {
      passive: false,
    },
  );
  element.addEventListener(
    "contextmenu",
    (event) => event.pointerType === "touch" && event.preventDefault(),
  );
}

/** Marks a place: a point to look for, or a dab of the brush. */
function place({ x, y }) {
  const point = { kind: "point", at: [x, y] };
  asked.marks.push(tool === "look" ? point : { kind: "brush", at: [brushRadius(), x, y] });
  changed();
}

function listenToStageKeys() {
  const element = $("asked");
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { width, height } = asked;
    if (event.key in ARROWS) {
      const size = Math.max(1, Math.round(Math.max(width, height) / STEPS)),
        [dx, dy] = ARROWS[event.key],
        from = cursor;
      cursor = {
        x: clamp(from.x + dx * size, 0, width - 1),
        y: clamp(from.y + dy * size, 0, height - 1),
      };
      $("cursor").hidden = false;
      if (event.shiftKey) {
        anchor ??= { from, mark: begin([from.x, from.y]) };
        const to = [cursor.x, cursor.y];
        if (anchor.mark.kind === "brush") extend(anchor.mark, null, to);
        else anchor.mark.at = boxBetween([anchor.from.x, anchor.from.y], to, asked);
        changed(false);
      } else {
        anchor = null;
        put($("cursor"), [cursor.x, cursor.y]);
      }
    } else if (event.key === "Enter" || event.key === " ") place(cursor);
    else if (event.key === "Backspace" || event.key === "Delete") undo();
    else return;
    event.preventDefault();
  });
  element.addEventListener("focus", () => {
    $("cursor").hidden = !element.matches(":focus-visible");
  });
  element.addEventListener("blur", () => {
    $("cursor").hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    if ($("dialog").open || event.target.matches("input, select")) return;
    if (event.key === "Escape") clear();
    if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) undo();
  });
}

function startMarks() {
  listenToHands();
  listenToStageKeys();
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("tools").addEventListener("input", () => {
    tool = $("tools").elements.tool.value;
    anchor = null;
    setMarking(false);
  });
  $("mark").hidden = !navigator.maxTouchPoints;
  $("mark").addEventListener("click", () => setMarking(!marking));
  $("undo").addEventListener("click", undo);
  $("clear").addEventListener("click", clear);
}
