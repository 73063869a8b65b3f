// Pointers, fingers and the keyboard over the images.

const LONG_PRESS = 450; // milliseconds

/** Turns the next drag of a finger into a region, or no longer. */
function setMarking(on) {
  marking = on;
  document.body.classList.toggle("marking", on);
  $("mark").setAttribute("aria-pressed", on);
}

// A mouse drags a box at once. A finger scrolls the page unless it has rested for a while, or a region
// is to be marked; as long as it rests, it points.
function listenToPointer(image, i) {
  const { stage } = image;
  let end = null; // of the last drag, by which the hand rests while the eye reads the maps
  const hover = (event) => {
    if (event.buttons || state.point?.pinned || (end && distance(event, end) < 24)) return;
    end = null;
    state.point = { image: i, ...pixelAt(positionOf(event, image), image), pinned: false };
    show();
  };
  const drop = () => {
    clearTimeout(image.drag?.timer);
    stage.classList.remove("marking");
    image.drag = null;
  };
  stage.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    const finger = event.pointerType === "touch",
      drag = { start: event, from: positionOf(event, image), moved: false };
    image.drag = Object.assign(drag, { draws: !finger || marking, before: state.point });
    if (!finger) return stage.setPointerCapture(event.pointerId);
    if (marking) return;
    state.point = { image: i, ...pixelAt(drag.from, image), pinned: false };
    drag.timer = setTimeout(() => {
      drag.draws = true;
      stage.classList.add("marking");
    }, LONG_PRESS);
    show();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return;
    const { drag } = image;
    if (!drag) return event.pointerType === "touch" ? undefined : hover(event);
    drag.moved ||= distance(event, drag.start) > 5;
    if (!drag.moved || !drag.draws) return clearTimeout(drag.moved && drag.timer);
    state.point = null;
    state.regions[i] = boxBetween(drag.from, positionOf(event, image), image);
    show();
  });
  stage.addEventListener("pointerup", (event) => {
    const { drag } = image;
    if (!event.isPrimary || !drag) return;
    drop();
    if (drag.moved && drag.draws) {
      end = event;
      setMarking(false);
    } else if (!drag.moved) {
      if (event.pointerType === "touch") state.point = drag.before;
      click(event);
    }
    showAndSay();
  });
  stage.addEventListener("pointercancel", () => {
    if (image.drag?.start.pointerType === "touch") state.point = image.drag.before; // it was a swipe
    drop();
    show();
  });
  // once a region is begun, the page must not scroll under it
  stage.addEventListener("touchmove", (event) => image.drag?.draws && event.preventDefault(), {
    passive: false,
  });
  stage.addEventListener(
    "contextmenu",
    (event) => event.pointerType === "touch" && event.preventDefault(),
  );
  stage.addEventListener("pointerleave", () => {
    if (!image.drag) end = null;
    if (!image.drag) letGo(i);
  });

  function click(event) {
    const at = pixelAt(positionOf(event, image), image),
      { point } = state;
    const { width } = stage.getBoundingClientRect();
    const near =
      point?.pinned &&
      point.image === i &&
      (Math.hypot(at.x - point.x, at.y - point.y) * width) / image.width < 10;
    state.point = { image: i, ...(near ? point : at), pinned: !near };
    image.cursor = at;
    image.anchor = null;
  }
}

/** Forgets a point that is not pinned, once the pointer or the focus has left its image. */
function letGo(i) {
  if (state.point?.image === i && !state.point.pinned) {
    state.point = null;
    show();
  }
}

function listenToKeys(image, i) {
  const { stage, width, height } = image;
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const pinned = state.point?.image === i && state.point.pinned;
    if (event.key in ARROWS) {
      const [dx, dy] = ARROWS[event.key],
        { rows, columns } = image.own.grid,
        from = image.cursor;
      image.cursor = {
        x: clamp(from.x + dx * Math.max(1, Math.round(width / columns / 2)), 0, width - 1),
        y: clamp(from.y + dy * Math.max(1, Math.round(height / rows / 2)), 0, height - 1),
      };
      if (event.shiftKey) {
        image.anchor ??= from;
        const { anchor: a, cursor: b } = image;
        state.point = null;
        state.regions[i] = [
          Math.min(a.x, b.x),
          Math.min(a.y, b.y),
          Math.max(a.x, b.x) + 1,
          Math.max(a.y, b.y) + 1,
        ];
      } else {
        image.anchor = null;
        state.point = { image: i, ...image.cursor, pinned };
      }
    } else if (event.key === "Enter" || event.key === " ") {
      state.point = { image: i, ...image.cursor, pinned: !pinned };
    } else return;
    event.preventDefault();
    showAndSay();
  });
  stage.addEventListener("blur", () => letGo(i));
}

function clear() {
  Object.assign(state, { point: null, regions: [null, null], cover: false });
  for (const image of images) {
    clearTimeout(image.drag?.timer);
    image.stage.classList.remove("marking");
    image.drag = image.anchor = null;
  }
  setMarking(false);
  showAndSay();
}
