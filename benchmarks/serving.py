"""Searching by hand: python -m benchmarks.serving

A gallery of 10,000 images, 24 of which are there: what a page waits for, over loopback, in
multiples of a bare run of the network on one image that is ready for it.
"""

import http.client
import itertools
import json
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import MEASURED, medians, table
from benchmarks.gallery import make_gallery
from simvis.gallery.folder import ImageFolder
from simvis.serving.server import make_server

IMAGES, THERE = 10_000, 24


def report(repeats=20):
    with tempfile.TemporaryDirectory() as place:
        gallery, folder = make_gallery(Path(place), IMAGES, THERE)
        network = gallery.open(graph=True).network
        ready = threading.Event()
        service, _ = make_server(gallery, tell=ready.set)
        thread = threading.Thread(target=service.run)
        thread.start()
        ready.wait()
        try:
            rows = measure(service, network, folder, repeats)
        finally:
            service.end()
            thread.join()
    title = (
        f"Searching by hand, {IMAGES:,} images, imagenet network, a photograph of 640 x 427 pixels"
    )
    table(title, MEASURED, rows)


def measure(service, network, folder, repeats):
    """Return the rows of the table."""
    cookie, own = {"cookie": f"{service.cookie}={service.token}"}, threading.local()

    def post(path, body):
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", service.port)
        own.connection.request("POST", path, body, cookie)
        return json.loads(own.connection.getresponse().read())

    path = sorted(folder.iterdir())[0]
    batch = network.preprocess([ImageFolder(folder).load(path.name)[0]])
    photo, offsets = post("/photo", path.read_bytes())["photo"], itertools.count()
    asked = {}

    def rank():  # with a box that was not asked for before
        left = next(offsets) % 300 / 3
        asked.update(photo=photo, boxes=[[left, 50, left + 250, 300]])
        asked["hits"] = post("/search", json.dumps(asked | {"hits": None}))["hits"]

    def explain(count=1):
        question = {name: asked[name] for name in ("photo", "boxes")}
        questions = [json.dumps(question | {"hit": hit["row"]}) for hit in asked["hits"][:count]]
        list(pool.map(lambda body: post("/map", body), questions))

    with ThreadPoolExecutor(2) as pool:  # as many as a page asks for at once
        bare, ranking, one, twelve = medians(
            *(lambda: network.embed(batch), rank, explain, lambda: explain(12)),
            repeats=repeats,
            pick=min,
        )
    return [
        ("a ranking, of a new box", f"{ranking / bare:.1f} runs"),
        ("a map", f"{one / bare:.1f} runs"),
        ("twelve maps", f"{twelve / bare:.1f} runs"),
        ("the bare network, milliseconds an image", f"{1000 * bare:.1f}"),
    ]


if __name__ == "__main__":
    report()
