// What pages of cards are made of: elements, images with boxes, and frames with explorers.

const LONG_PRESS = 350; // milliseconds
let pressed = false; // whether a finger has just rested on a card, which is no click

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

function imageOf(source, className = "") {
  const img = make("img", className);
  Object.assign(img, { alt: "", loading: "lazy", draggable: false, src: source });
  img.addEventListener("error", () =>
    img.replaceWith(make("span", "none small muted", "the picture is gone")),
  );
  return img;
}

function boxOf([x0, y0, x1, y1], { width, height }) {
  const box = make("span", "box"),
    percent = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(box.style, {
    left: percent(x0, width),
    top: percent(y0, height),
    width: percent(x1 - x0, width),
    height: percent(y1 - y0, height),
  });
  return box;
}

/** Shows the overlay as long as a finger rests on an image. */
function listenToFinger(thumb) {
  let timer = 0;
  thumb.addEventListener("pointerdown", (event) => {
    pressed = false;
    if (event.pointerType !== "touch") return;
    timer = setTimeout(() => {
      pressed = true;
      thumb.classList.add("held");
    }, LONG_PRESS);
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
    thumb.addEventListener(name, () => {
      clearTimeout(timer);
      if (pressed) thumb.classList.remove("held");
    });
  }
  thumb.addEventListener(
    "contextmenu",
    (event) => event.pointerType === "touch" && event.preventDefault(),
  );
}

/** Returns a frame with the explorer of a pair, in which Escape that clears nothing leaves it. */
function frameOf(name, pair, leave) {
  const frame = make("iframe", ""),
    [before, after] = DATA.explorer,
    data = JSON.stringify(pair);
  // what would end or open a tag, as in page.py
  const text = data.replace(
    /[<>&]/g,
    (character) => `\\u00${character.charCodeAt(0).toString(16)}`,
  );
  frame.title = `Explorer: ${name}`;
  frame.addEventListener("load", () => {
    // before the explorer, which clears what is asked: only then does Escape close it
    frame.contentDocument.addEventListener(
      "keydown",
      (event) => {
        const asked = frame.contentWindow.explorer?.state() ?? {};
        if (event.key === "Escape" && !asked.point?.pinned && !asked.region1 && !asked.region2)
          leave();
      },
      true,
    );
  });
  frame.srcdoc = before + text + after;
  return frame;
}
