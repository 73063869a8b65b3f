// The gallery's own pictures, to pick from.

let page = 0;
let listing = 0; // the number of the last list that was asked for
let typing = 0; // a timer

async function listPictures() {
  listing += 1;
  const mine = listing;
  const words = new URLSearchParams({ text: $("text").value, page });
  try {
    const found = await (await ask(`/pictures?${words}`)).json();
    if (mine === listing) showPictures(found);
  } catch (error) {
    if (mine === listing) fail(error, listPictures);
  }
}

function showPictures({ total, pages, pictures }) {
  $("pictures").replaceChildren(...pictures.map(pictureOf));
  $("previous-page").disabled = page === 0;
  $("next-page").disabled = page >= pages - 1;
  $("pager").hidden = pages < 2;
  const part = pages > 1 ? `, page ${page + 1} of ${pages}` : "";
  $("total").textContent =
    `${total.toLocaleString("en")} ${total === 1 ? "picture" : "pictures"}${part}`;
}

function pictureOf(picture) {
  const shown = make("span", "picture", imageOf(`/picture/${picture.row}`)),
    thumb = make("button", "thumb", shown);
  shown.style.setProperty("--ratio", picture.width / picture.height);
  Object.assign(thumb, { type: "button", title: picture.path });
  thumb.setAttribute("aria-label", `Search with ${picture.path}`);
  thumb.addEventListener("click", () => goTo(subjectOf(picture)));
  const name = make("bdi", "name small muted", picture.path);
  const element = make("li", "card", thumb, name);
  element.dataset.picture = picture.path;
  return element;
}

/** Shows the gallery instead of the hits. */
function browse() {
  $("gallery").hidden = false;
  $("found").hidden = true;
  $("browse").hidden = true;
  listPictures();
  $("text").focus();
}

function startGallery() {
  const turnTo = (next) => {
    page = next;
    listPictures();
  };
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => turnTo(0), REST);
  });
  $("previous-page").addEventListener("click", () => turnTo(page - 1));
  $("next-page").addEventListener("click", () => turnTo(page + 1));
  $("browse").addEventListener("click", browse);
  listPictures();
}
