"""Table 3: does the region of an object find the object, and the room that it stands in?"""

from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.focus import SMALL, objects_of, partners_of, room_of
from evaluation.measures import cell_on, mass_by_object, peak_on, rank_of_first
from evaluation.rivals import cosines
from evaluation.tables import figure
from evaluation.views import OBJECTS
from simvis.image_ops import load_image, region_weights
from simvis.similarity_ops import compute_spatial_similarity, pool_features

EXAMPLES = Path(__file__).resolve().parent.parent / "example_images"


def pointing(subject, views, names):
    """Ask each view about an object, and look at the map of another view of its room.

    Parameters
    ----------
    subject : Subject
    views : list of View
    names : tuple of str

    Returns
    -------
    measured : dict of measure to dict of (object, network) to Figure
        The share of pairs whose peak lies on the same object, or whose highest cell shows some of
        it, and the mass on it, with the region (asked) and without (not asked).
    silent : int
        How many queries had no activation at all in their region: they have no map.
    """
    pairs = [(view, other) for view in views for other in partners_of(view, views)[:1]]
    measured, silent = {}, 0
    for name in names:
        number, rooms, found = OBJECTS.index(name), [], []
        for view1, view2 in pairs:
            query, target = objects_of(view1) == number, objects_of(view2)
            if query.mean() < SMALL or (target == number).mean() < SMALL:
                continue
            weights = region_weights(query, query.shape, subject.grid)
            if not subject.region_embedding(view1, weights).any():
                silent += 1
                continue
            row = []
            for regions in ({"region1": weights}, {}):
                similarity = subject.maps(view1, view2, **regions)[1]
                mass = mass_by_object(similarity, target, len(OBJECTS))[number]
                row += [
                    peak_on(similarity, target == number),
                    cell_on(similarity, target == number),
                    mass,
                ]
            rooms.append(room_of(view1))
            found.append(row)
        if found:
            measures = [
                f"{measure}, {asked}"
                for asked in ("asked", "not asked")
                for measure in ("peak", "highest cell", "mass")
            ]
            for measure, values in zip(measures, np.array(found, float).T, strict=True):
                cells = measured.setdefault(measure, {})
                cells[name, subject.name] = figure(np.mean, rooms, values)
    return measured, silent


def gallery_search(subject, views, names):
    """Search all other views with the region of one object alone.

    Returns
    -------
    measured : dict of measure to dict of (object, network) to Figure
        The share of queries that have a view of their room first, and among the first five.
    silent : int
        How many queries had no activation at all in their region.
    """
    gallery = subject.embeddings(views)
    labels = np.array([view.room for view in views])
    measured, silent = {"recall@1": {}, "recall@5": {}}, 0
    for name in names:
        ranks, rooms = [], []
        for index, view in enumerate(views):
            mask = objects_of(view) == OBJECTS.index(name)
            relevant = (labels == view.room) & (np.arange(len(views)) != index)
            if mask.mean() < SMALL or not relevant.any():
                continue
            query = subject.region_embedding(view, region_weights(mask, mask.shape, subject.grid))
            if not query.any():
                silent += 1
                continue
            (similarities,) = cosines([query], gallery)
            similarities[index] = -np.inf
            ranks.append(rank_of_first([similarities], [relevant])[0])
            rooms.append(room_of(view))
        if ranks:
            for count in (1, 5):
                hit = np.array(ranks) < count
                cells = measured[f"recall@{count}"]
                cells[name, subject.name] = figure(np.mean, rooms, hit)
    return measured, silent


def example_headboard(subject):
    """Ask the first example image about its headboard, and look at the second's map.

    Returns
    -------
    cells : dict of (what, column) to str, shares of the pixels and of the map's positive mass
    """
    paths = [EXAMPLES / f"room_a_view{number}.jpg" for number in (1, 2)]
    convs = subject.run(subject.preprocess([load_image(path) for path in paths])).numpy()
    masks = [path.with_name(f"{path.stem}_objects.png") for path in paths]
    query, target = (np.array(Image.open(path)) == OBJECTS.index("headboard") for path in masks)
    weights = region_weights(query, query.shape, subject.grid)
    cells = {("pixels", "of image 2"): f"{target.mean():.1%}"}
    column = f"{subject.name}, {'x'.join(map(str, subject.grid))}"
    for row, region in (("without a region", None), ("with the region on it", weights)):
        head = {"projection": subject.projection(), "data_format": "channels_last"}
        if not pool_features(convs[0], region=region, **head).any():
            cells[row, column] = "no activation"
            continue
        similarity = compute_spatial_similarity(*convs, region1=region, **head)[1]
        share = mass_by_object(similarity, target.astype(int), 2)[1]
        cells[row, column] = f"{share:.1%}"
    return cells
