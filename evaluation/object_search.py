"""Table 3: does the region of an object find the object, and the room that it stands in?"""

from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.focus import SMALL, objects_of, one_pair_each, room_of
from evaluation.measures import cell_on, mass_on, peak_on, rank_of_first
from evaluation.rivals import cosines
from evaluation.tables import mean_figures
from evaluation.views import OBJECTS
from simvis.image_ops import load_image, region_weights

EXAMPLES = Path(__file__).resolve().parent.parent / "example_images"


def pointing(subject, views, names):
    """Ask each view about each named object, and look at the map of another view of its room.

    Returns a dict of measure to dict of (object, network) to Figure: the share of pairs whose peak
    lies on the same object, or whose highest cell shows some of it, and the mass on it, with the
    region (asked) and without (not asked).  Then how many queries had no activation at all in their
    region, and so no map.
    """
    pairs = one_pair_each(views)
    looks = "peak", "highest cell", "mass"
    measures = [f"{look}, {asked}" for asked in ("asked", "not asked") for look in looks]

    def look(number, pair, weights, _embedding):
        on, row = objects_of(pair[1]) == number, []
        for regions in ({"region1": weights}, {}):
            similarity = subject.maps(*pair, **regions)[1]
            row += [peak_on(similarity, on), cell_on(similarity, on), mass_on(similarity, on)]
        return row

    return _ask(subject, pairs, names, measures, look)


def gallery_search(subject, views, names):
    """Search all other views with the region of each named object alone.

    Returns a dict of measure to dict of (object, network) to Figure: the share of queries that have
    a view of their room first, and among the first five.  Then how many queries had no activation
    at all in their region.
    """
    gallery, labels = subject.embeddings(views), np.array([view.room for view in views])
    queries = [(view,) for view in views if np.sum(labels == view.room) > 1]

    def look(_number, query, _weights, embedding):
        (similarities,) = cosines([embedding], gallery)
        others = np.array([view is not query[0] for view in views])
        similarities[~others] = -np.inf
        relevant = (labels == query[0].room) & others
        rank = rank_of_first([similarities], [relevant])[0]
        return rank < 1, rank < 5

    return _ask(subject, queries, names, ("recall@1", "recall@5"), look)


def _ask(subject, queries, names, measures, look):
    """Ask each query, a tuple of views that must show the object, and average what `look` returns.

    look : function of the object's number, the query, its first view's region (h, w) and the
        embedding of that -> a value for each of the measures
    """
    measured, silent = {}, 0
    for name in names:
        number, rooms, rows = OBJECTS.index(name), [], []
        for query in queries:
            masks = [objects_of(view) == number for view in query]
            if min(mask.mean() for mask in masks) < SMALL:
                continue
            weights = region_weights(masks[0], masks[0].shape, subject.grid)
            embedding = subject.region_embedding(subject.conv(query[0]), weights)
            if not embedding.any():
                silent += 1
                continue
            rooms.append(room_of(query[0]))
            rows.append(look(number, query, weights, embedding))
        found = mean_figures(rooms, {name: rows} if rows else {}, measures, subject.name)
        for measure, cells in found.items():
            measured.setdefault(measure, {}).update(cells)
    return measured, silent


def example_headboard(subject):
    """Ask the first example image about its headboard, and look at the second's map.

    Returns a dict of (what, column) to str, shares of the pixels and of the map's positive
    mass.
    """
    paths = [EXAMPLES / f"room_a_view{number}.jpg" for number in (1, 2)]
    convs = subject.run(subject.preprocess([load_image(path) for path in paths])).numpy()
    masks = [path.with_name(f"{path.stem}_objects.png") for path in paths]
    query, target = (np.array(Image.open(path)) == OBJECTS.index("headboard") for path in masks)
    weights = region_weights(query, query.shape, subject.grid)
    cells = {("pixels", "of image 2"): f"{target.mean():.1%}"}
    column = f"{subject.name}, {'x'.join(map(str, subject.grid))}"
    for row, region in (("without a region", None), ("with the region on it", weights)):
        if subject.region_embedding(convs[0], region).any():
            similarity = subject.maps_of(*convs, region1=region)[1]
            cells[row, column] = f"{mass_on(similarity, target):.1%}"
        else:
            cells[row, column] = "no activation"
    return cells
