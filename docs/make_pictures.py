"""Make the pictures of the README: python -m docs.make_pictures"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

import search_gallery
from simvis import image_ops
from simvis.pair import EXAMPLE_PAIR, EXAMPLES
from visualize_similarity import main

DOCS = Path(__file__).resolve().parent
COMMANDS = {
    "pair": "",
    "fine": "--fine",
    "max": "--pooling max",
    "gem": "--pooling gem --gem-power 3",
    "head": "--explain head",
    "region": "--region1 196,90,334,170",
    "point": "--point1 293,252",
    "matches": "--matches 6",
    "triplet": f"--than {EXAMPLES / 'room_b_view1.jpg'}",
}


def make_pictures():
    for name, options in COMMANDS.items():
        main([*map(str, EXAMPLE_PAIR), *options.split(), "--output", str(DOCS / f"{name}.jpg")])


def make_training_picture():
    """Train a small network to tell red discs from green ones; show a pair before and after."""
    import keras
    from keras import layers

    from simvis.training import SimilarityMaps

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.integers(60, 200, (256, 32, 32, 3)).astype(np.uint8)
    classes = np.arange(len(images)) % 2
    y, x = np.mgrid[:32, :32]
    for image, color in zip(images, classes, strict=True):
        cy, cx = rng.choice([8, 24], 2)
        image[(y - cy) ** 2 + (x - cx) ** 2 < 36] = ((230, 30, 30), (30, 230, 30))[color]
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 127.5, -1)])
    for channels in (16, 24):
        model.add(layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(2))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    with tempfile.TemporaryDirectory() as folder:
        pair = images[0], images[2]
        maps = SimilarityMaps([pair], folder=folder, epochs=4, look={"size": 224})
        model.fit(images, classes, epochs=4, verbose=0, callbacks=[maps])
        before, after = (image_ops.load_image(path) for path in sorted(Path(folder).iterdir()))
    gap = np.full((len(before), 24, 3), 255, np.uint8)
    image_ops.save_image(DOCS / "training.jpg", np.hstack([before, gap, after]))


def make_screenshot():
    """Show the explorer, asked about the picture on the wall."""
    from benchmarks.browser import browser, open_page

    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        path = Path(folder) / "pair.html"
        files = ["--output", str(Path(folder) / "pair.png"), "--html", str(path)]
        main([*map(str, EXAMPLE_PAIR), *files])
        page = open_page(chromium, path, viewport={"width": 1440, "height": 830})
        box = page.locator(".stage").first.bounding_box()
        scale = box["width"] / 720
        page.mouse.move(box["x"] + 196 * scale, box["y"] + 90 * scale)
        page.mouse.down()
        page.mouse.move(box["x"] + 334 * scale, box["y"] + 170 * scale, steps=5)
        page.mouse.up()
        page.mouse.move(0, 0)
        page.screenshot(path=DOCS / "explorer.jpg", type="jpeg", quality=88)


def make_search_picture():
    """Search the evaluation's rooms with the picture on the wall of one."""
    from evaluation.views import OBJECTS, load_views

    rooms = load_views(DOCS.parent / "evaluation" / "held_out" / "held_all")
    y, x = np.nonzero(rooms[0].objects() == OBJECTS.index("picture"))
    region = ",".join(map(str, (x.min(), y.min(), x.max() + 1, y.max() + 1)))
    with tempfile.TemporaryDirectory() as folder:
        views, query = Path(folder) / "rooms", rooms[0].image_path
        views.mkdir()
        for view in rooms:
            shutil.copy(view.image_path, views)
        files = ["--gallery", f"{folder}/gallery", "--output", f"{folder}/found"]
        search_gallery.main(["index", str(views), "--network", "rooms", *files[:2]])
        search_gallery.main(["find", str(query), "--region", region, "--top", "8", *files])
        shutil.copy(f"{folder}/found/contact_sheet.jpg", DOCS / "search.jpg")


def make_card_picture():
    """Show the report card of rooms on the evaluation's views."""
    from benchmarks.browser import browser
    from evaluation import card

    held_out = DOCS.parent / "evaluation" / "held_out"
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        files = ["--images", str(held_out), "--labels", f"{held_out}_rooms.csv"]
        card.main(["--network", "rooms", *files, "--output", folder])
        page = chromium.new_page(viewport={"width": 1600, "height": 900})
        page.goto((Path(folder) / card.PAGE).as_uri())
        page.screenshot(path=DOCS / "report_card.jpg", type="jpeg", quality=88)


if __name__ == "__main__":
    make_pictures()
    make_training_picture()
    make_screenshot()
    make_search_picture()
    make_card_picture()
