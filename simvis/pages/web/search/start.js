// How the page starts, and how a photograph comes to it: chosen, dropped or pasted.

const photographIn = (files) =>
  [...files].find(({ type }) => type.startsWith("image/")) ?? files[0];

function listenForPhotographs() {
  $("file").addEventListener("change", () => {
    if ($("file").files.length) take($("file").files[0]);
    $("file").value = ""; // so that the same one can be chosen again
  });
  const drops = (on) => (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", on);
  };
  document.addEventListener("dragover", drops(true));
  document.addEventListener("dragleave", drops(false));
  document.addEventListener("drop", (event) => {
    drops(false)(event);
    const file = photographIn(event.dataTransfer.files);
    if (file) take(file);
  });
  document.addEventListener("paste", (event) => {
    const file = photographIn(event.clipboardData.files);
    if (file) take(file);
  });
}

/** Goes back, or forward, to what was asked before. */
function listenToHistory() {
  history.replaceState({ step: -1 }, "");
  window.addEventListener("popstate", ({ state }) => {
    step = Math.min(state?.step ?? -1, trail.length - 1);
    turn += 1; // what is on its way is not wanted any more
    asked = trail[step] ?? null;
    if (asked) {
      showAsked();
      search();
      return;
    }
    $("asking").hidden = $("back").hidden = true;
    $("empty").hidden = false;
    browse();
  });
  $("back").addEventListener("click", () => history.back());
}

function start() {
  $("network").textContent = `${DATA.images.toLocaleString("en")} images, ${DATA.network}`;
  $("retry").addEventListener("click", () => {
    succeed();
    failed?.();
  });
  listenForPhotographs();
  listenToHistory();
  startMarks();
  startHits();
  startGallery();
}

start();
