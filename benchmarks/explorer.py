"""How fast the explorer opens and follows the pointer: python -m benchmarks.explorer

In milliseconds of a headless Chromium without a graphics card, for what counts here is whether an
eye can see it, which no ratio says.
"""

import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import table
from benchmarks.browser import browser, open_page, wait_until
from simvis import image_ops
from simvis.pages.explorer import write_explorer
from simvis.visualize_similarity import EXAMPLE_PAIR


def opening_times(chromium, path, repeats=7, ready="window.explorer"):
    """Return the milliseconds from going to the file until its first picture is on the screen.

    It may be there once ``ready`` is true in the page.
    """
    times = []
    for _ in range(repeats):
        page = chromium.new_page()
        page.add_init_script(f"""
            const wait = () => requestAnimationFrame({ready} ? painted : wait);
            const painted = () => setTimeout(() => {{ window.opened = performance.now(); }});
            wait();""")
        page.goto(Path(path).resolve().as_uri())
        wait_until(page, "window.opened")
        times.append(page.evaluate("window.opened"))
        page.close()
    return times


def hover_times(page, repeats=60):
    """Return the milliseconds from each move of the pointer until its match has been painted."""
    # the message arrives after the frame's painting
    page.evaluate("""() => {
        window.times = [];
        document.addEventListener("pointermove", () => {
            const start = performance.now(), channel = new MessageChannel();
            channel.port1.onmessage = () => times.push(performance.now() - start);
            requestAnimationFrame(() => channel.port2.postMessage(null));
        }, true);
    }""")
    box = page.locator(".stage").first.bounding_box()
    for step in range(repeats):
        x, y = (0.1 + 0.8 * (step * stride % 1) for stride in (0.618, 0.414))
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        wait_until(page, f"times.length > {step}")
    return page.evaluate("times")


def sparse_activations(rng, *shape):
    """Return what a ReLU lets through of noise, float32."""
    return np.maximum(rng.standard_normal(shape), 0).astype(np.float32)


def report():
    rng = np.random.default_rng(0)
    images = [image_ops.resize(image_ops.load_image(path), (427, 640)) for path in EXAMPLE_PAIR]
    head = rng.standard_normal((2048, 128)), rng.standard_normal(128)
    rows = []
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        for side in (7, 28):
            path = Path(folder) / f"{side}.html"
            convs = sparse_activations(rng, 2, side, side, 2048)
            write_explorer(path, *images, *convs, projection=head)
            page = open_page(chromium, path)
            figures = [
                f"{statistics.median(times):.0f} ms"
                for times in (opening_times(chromium, path), hover_times(page))
            ]
            size = f"{path.stat().st_size / 1e6:.2f} MB"
            rows.append((f"{side} x {side} x 2048, head of 128", *figures, size))
            page.close()
    table("The explorer, medians", ("maps", "to the first picture", "hover", "file"), rows)


if __name__ == "__main__":
    report()
