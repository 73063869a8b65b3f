"""The method: laws over random inputs, plain loops from the definitions, gradients as a judge."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from similarity_ops import (
    POOLINGS,
    best_box,
    compute_pairwise_similarity,
    compute_spatial_similarity,
    local_features,
    mutual_matches,
    mutual_neighbours,
    point_similarity,
    pool_features,
    strongest_matches,
    strongest_part,
    tokens_to_map,
)

# Drawn arrays may have fewer channels than rows and columns, which is warned of.
pytestmark = pytest.mark.filterwarnings("ignore:conv.*read as .H, W, C.:UserWarning")

# --- plain loops, written from the definitions ---------------------------------------------------


def loop_local_features(conv, pooling="average", projection=None, region=None, power=3.0):
    """l[u], position by position and channel by channel."""
    conv, region = conv.astype(np.float64), np.ones(conv.shape[:2]) if region is None else region
    inside = [u for u in np.ndindex(region.shape) if region[u] > 0]
    area = sum(region[u] for u in inside)
    local = np.zeros(conv.shape)
    for c in range(conv.shape[2]):
        largest = max(conv[u][c] for u in inside)
        ties = sum(conv[u][c] == largest for u in inside)
        powers = sum(region[u] * conv[u][c] ** power for u in inside) if pooling == "gem" else 0
        for u in inside:
            value = conv[u][c]
            if pooling == "average":
                local[u][c] = region[u] * value / area
            elif pooling == "max":
                local[u][c] = value / ties if value == largest else 0
            elif powers > 0:
                feature = (powers / area) ** (1 / power)
                local[u][c] = feature * region[u] * value**power / powers
    if projection is None:
        return local
    kernel, bias = projection
    projected = np.zeros((*region.shape, kernel.shape[1]))
    for u in inside:
        projected[u] = local[u] @ kernel + (0 if bias is None else bias / len(inside))
    return projected


def loop_similarity(local1, local2):
    """The pairwise tensor, both maps and the cosine, as the authors' code walks over positions."""
    feature1, feature2 = local1.sum(axis=(0, 1)), local2.sum(axis=(0, 1))
    norms = np.linalg.norm(feature1) * np.linalg.norm(feature2)
    pairwise = np.zeros(local1.shape[:2] + local2.shape[:2])
    for y1, x1, y2, x2 in np.ndindex(pairwise.shape):
        pairwise[y1, x1, y2, x2] = local1[y1, x1] @ local2[y2, x2] / norms
    return pairwise, pairwise.sum((2, 3)), pairwise.sum((0, 1)), feature1 @ feature2 / norms


# --- random settings: shapes, dtypes, poolings, heads, regions -----------------------------------


@st.composite
def pairs(draw, dtype=np.float64, signed=True):
    """A pair of images and the keyword arguments of a call, any combination of settings."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side = st.integers(1, 5)
    shape1, shape2 = draw(st.tuples(side, side)), draw(st.tuples(side, side))
    channels, dimensions = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    pooling = draw(st.sampled_from(POOLINGS))

    def activations(shape):
        values = rng.uniform(0.1, 2, (*shape, channels))
        if draw(st.booleans()):  # few distinct values, hence many ties and many zeros
            values = np.ceil(values) - (rng.random(values.shape) < 0.3)
            values[0, 0] = 2
        if signed and pooling != "gem" and draw(st.booleans()):
            values *= rng.choice([-1, 1], values.shape)
            values[0, 0] = 60  # keeps the embedding away from zero
        return values.astype(dtype)

    def region(shape):
        if not draw(st.booleans()):
            return None
        weights = rng.random(shape) * (rng.random(shape) < 0.7)
        weights[0, 0] = draw(st.sampled_from((0.01, 1.0, 50.0)))
        return weights

    conv1, conv2 = activations(shape1), activations(shape2)
    options = {"pooling": pooling, "region1": region(shape1), "region2": region(shape2)}
    if pooling == "gem":
        options["power"] = draw(st.sampled_from((1, 2, 3.0, 5, 2.5, 7.3)))
    if draw(st.booleans()):
        kernel = rng.standard_normal((channels, dimensions))
        bias = rng.standard_normal(dimensions) + 5
        options["projection"] = kernel, draw(st.sampled_from((None, bias)))
    return conv1, conv2, options


def one_image(options, number):
    """The keyword arguments of `local_features` for one image of a pair."""
    options = dict(options)
    regions = options.pop("region1"), options.pop("region2")
    return {**options, "region": regions[number - 1]}


@given(pairs())
def test_everything_equals_plain_loops_and_sums_to_the_cosine(pair):
    conv1, conv2, options = pair
    local1 = loop_local_features(conv1, **one_image(options, 1))
    local2 = loop_local_features(conv2, **one_image(options, 2))
    assert_allclose(local_features(conv1, **one_image(options, 1)), local1, rtol=1e-12, atol=1e-13)
    embedding = pool_features(conv2, **one_image(options, 2))
    assert_allclose(embedding, local2.sum(axis=(0, 1)), rtol=1e-12, atol=1e-12)
    *expected, cosine = loop_similarity(local1, local2)
    pairwise = compute_pairwise_similarity(conv1, conv2, **options)
    similarity1, similarity2 = compute_spatial_similarity(conv1, conv2, **options)
    for computed, loop in zip((pairwise, similarity1, similarity2), expected, strict=True):
        assert computed.shape == loop.shape and computed.dtype == np.float64
        assert_allclose(computed, loop, rtol=1e-12, atol=1e-12)
        assert_allclose(computed.sum(), cosine, atol=1e-10)


# Rectified activations: where signs cancel, float32 has no relative precision to keep.
@given(pairs(dtype=np.float32, signed=False))
def test_float32_stays_within_1e_6_of_a_float64_loop(pair):
    conv1, conv2, options = pair
    options["projection"] = None
    local1 = loop_local_features(conv1, **one_image(options, 1))
    local2 = loop_local_features(conv2, **one_image(options, 2))
    computed = compute_spatial_similarity(conv1, conv2, **options)
    for similarity, expected in zip(computed, loop_similarity(local1, local2)[1:3], strict=True):
        assert_allclose(similarity, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_maps_of_a_real_size_equal_the_loop(rng, dtype, tolerance):
    conv1, conv2 = rng.gamma(0.3, size=(2, 7, 7, 2048)).astype(dtype)
    local1, local2 = (conv.astype(np.float64) / 49 for conv in (conv1, conv2))
    _, *expected, cosine = loop_similarity(local1, local2)
    for similarity, loop in zip(compute_spatial_similarity(conv1, conv2), expected, strict=True):
        assert_allclose(similarity, loop, rtol=tolerance)
        assert_allclose(similarity.sum(), cosine, rtol=tolerance)


@given(pairs(), st.floats(1e-150, 1e150), st.floats(1e-150, 1e150))
def test_scaling_the_activations_changes_nothing(pair, scale1, scale2):
    conv1, conv2, options = pair
    if options.get("projection"):  # a bias does not scale with the activations
        options["projection"] = options["projection"][0], None
    plain = compute_spatial_similarity(conv1, conv2, **options)
    scaled = compute_spatial_similarity(conv1 * scale1, conv2 * scale2, **options)
    for similarity, expected in zip(scaled, plain, strict=True):
        assert_allclose(similarity, expected, rtol=1e-9, atol=1e-10)


@given(pairs(), st.randoms(use_true_random=False))
def test_swapping_images_swaps_the_maps_and_permuting_positions_permutes_them(pair, random):
    conv1, conv2, options = pair
    count = conv1[..., 0].size
    order = random.sample(range(count), count)

    def permuted(array):
        return None if array is None else array.reshape(count, -1)[order].reshape(array.shape)

    similarity1, similarity2 = compute_spatial_similarity(conv1, conv2, **options)
    options["region1"], options["region2"] = options["region2"], permuted(options["region1"])
    moved2, moved1 = compute_spatial_similarity(conv2, permuted(conv1), **options)
    assert_allclose(moved1, permuted(similarity1), atol=1e-12)
    assert_allclose(moved2, similarity2, atol=1e-12)


@given(pairs())
def test_inputs_are_never_modified(pair):
    conv1, conv2, options = pair
    arrays = [conv1, conv2, options["region1"], options["region2"], *options.get("projection", ())]
    before = [np.array(array) for array in arrays]
    for array in arrays:
        if array is not None:
            array.setflags(write=False)
    compute_spatial_similarity(conv1, conv2, **options)
    compute_pairwise_similarity(conv1, conv2, **options)
    for array, copy in zip(arrays, before, strict=True):
        assert_array_equal(array, copy)


# --- gradients as an outside judge ---------------------------------------------------------------


@pytest.mark.parametrize("head", [False, True])
def test_average_pooling_equals_activation_times_gradient(rng, head):
    tf = pytest.importorskip("tensorflow")
    conv1, conv2 = (rng.gamma(0.5, size=shape) for shape in ((4, 6, 8), (5, 3, 8)))
    kernel = rng.standard_normal((8, 5)) if head else np.eye(8)
    variables = tf.Variable(conv1), tf.Variable(conv2)
    with tf.GradientTape() as tape:
        pooled = [tf.reduce_mean(conv, axis=(0, 1)) for conv in variables]
        features = [tf.linalg.matvec(kernel.T, feature) for feature in pooled]
        dot = tf.tensordot(*features, 1)
    norms = np.prod([np.linalg.norm(feature) for feature in features])
    gradients = tape.gradient(dot, variables)
    projection = (kernel, None) if head else None
    maps = compute_spatial_similarity(conv1, conv2, projection=projection)
    for similarity, conv, gradient in zip(maps, (conv1, conv2), gradients, strict=True):
        assert_allclose(similarity, (conv * gradient.numpy()).sum(axis=2) / norms, rtol=1e-10)


def test_gem_grows_from_average_into_max(rng):
    conv1, conv2 = rng.gamma(0.5, size=(2, 4, 4, 32))
    for power, pooling, tolerance in ((1, "average", 1e-12), (4000.5, "max", 1e-2)):
        gem = compute_spatial_similarity(conv1, conv2, "gem", power=power)
        other = compute_spatial_similarity(conv1, conv2, pooling)
        assert_allclose(gem, other, atol=tolerance)
    feature = np.array([1, 1e-14], np.float32)  # the cube of which is no float32
    assert_allclose(pool_features(np.tile(feature, (2, 2, 1)), "gem"), feature, rtol=1e-6)


def test_other_layouts_of_the_same_activations_have_the_same_maps(rng):
    conv1, conv2 = rng.random((2, 5, 5, 9))
    expected = compute_spatial_similarity(conv1, conv2)
    flat = compute_spatial_similarity(conv1.reshape(25, 9), conv2.reshape(25, 9))
    assert_array_equal(flat, expected)
    first = [np.moveaxis(conv, 2, 0) for conv in (conv1, conv2)]
    for convs in (first, [conv.reshape(9, 25) for conv in first]):
        maps = compute_spatial_similarity(*convs, data_format="channels_first")
        assert_allclose(maps, expected, rtol=1e-14)
    with pytest.raises(ValueError, match="data_format: expected channels_last or .* got NCHW"):
        pool_features(conv1, data_format="NCHW")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("function", [compute_pairwise_similarity, pool_features])
def test_what_looks_like_channels_first_is_warned_of_where_it_is_called(function):
    arguments = [np.ones((6, 5, 4))] * (1 if function is pool_features else 2)
    with pytest.warns(UserWarning, match="read as .H, W, C., 6 x 5 positions of 4") as warned:
        function(*arguments)
    assert {warning.filename for warning in warned} == {__file__}


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "longdouble", "uint8", "int64", "bool"]
)
def test_any_real_dtype_gives_float64(rng, dtype):
    conv1, conv2 = rng.integers(0, 2, (2, 3, 4, 30)).astype(dtype)
    maps = compute_spatial_similarity(conv1, conv2)
    expected = compute_spatial_similarity(conv1.astype("float64"), conv2.astype("float64"))
    assert maps[0].dtype == maps[1].dtype == np.float64
    assert_allclose(maps, expected, rtol=1e-6)


def test_tensors_of_tensorflow_are_taken_too(rng):
    tf = pytest.importorskip("tensorflow")
    conv = rng.random((3, 4, 8)).astype(np.float32)
    tensors = tf.constant(conv), tf.cast(conv, tf.bfloat16)
    exact, rounded = (compute_spatial_similarity(tensor, tensor)[0] for tensor in tensors)
    assert_allclose(exact, rounded, rtol=0.02)


@pytest.mark.parametrize("scale", [2.0**-700, 2.0**-130, 1, 2.0**130, 2.0**700])
def test_a_sum_of_zero_is_an_error_at_any_scale(scale):
    conv = np.array([[[3.0], [-2.0], [-1.0]]]) * scale
    with pytest.raises(ValueError, match="conv1: its pooled feature is all zero"):
        compute_spatial_similarity(conv, np.ones((1, 1, 1)))


# --- the ends of the floating-point range: right, or refused --------------------------------------

FEW = np.random.default_rng(1).random((2, 3, 4, 5)) + 0.1
HEAD = np.random.default_rng(2).standard_normal((5, 6)), np.random.default_rng(3).random(6)
EXTREMES = [(np.float32, x) for x in (1e-45, 1e-40, 1e-30, 1e30, 3e38)]
EXTREMES += [(np.float64, x) for x in (5e-324, 1e-310, 1e-200, 1e200, 1e308)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype, scale", EXTREMES)
def test_activations_of_any_size_have_the_same_maps(dtype, scale, pooling):
    ones = np.ones((2, 2, 33))
    extreme = np.full(ones.shape, scale, dtype)
    for function in (compute_spatial_similarity, compute_pairwise_similarity):
        expected = function(ones, ones, pooling)
        assert_allclose(function(extreme, ones, pooling), expected, rtol=1e-5)
        assert_allclose(function(ones, extreme, pooling), expected, rtol=1e-5)
    assert_allclose(pool_features(extreme, pooling), extreme[0, 0], rtol=1e-6)
    if scale > 1e-320:  # a share of the smallest number is none
        assert_allclose(local_features(extreme, pooling).sum((0, 1)), extreme[0, 0], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_a_head_of_any_size_has_the_same_maps(scale):
    kernel, bias = HEAD
    for function in (compute_spatial_similarity, compute_pairwise_similarity):
        expected = function(*FEW, projection=HEAD)
        scaled = function(*FEW, projection=(kernel * scale, bias * scale))
        assert_allclose(scaled, expected, atol=1e-12)
        # activations and bias may be scaled together, too
        scaled = function(*FEW * scale, projection=(kernel, bias * scale))
        assert_allclose(scaled, expected, atol=1e-12)
    feature = pool_features(FEW[0], projection=(kernel * scale, bias * scale))
    assert_allclose(feature, pool_features(FEW[0], projection=HEAD) * scale, rtol=1e-12)
    # a bias beside which the features vanish is all that there is
    maps = compute_spatial_similarity(*FEW * 1e-310, projection=HEAD)
    assert_allclose(maps, np.full((2, 3, 4), 1 / 12), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_lies_outside_of_a_region_does_not_matter(dtype, pooling):
    large = 1e25 if dtype == np.float32 else 1e300
    conv = np.array([[[large], [1 / large**0.8]]], dtype)
    maps = compute_spatial_similarity(conv, conv, pooling, region1=[[0, 1]])
    assert_allclose(maps[0], [[0, 1]], rtol=1e-6)
    assert_allclose(maps[1].sum(), 1, rtol=1e-6)
    pairwise = compute_pairwise_similarity(conv, conv, pooling, region1=[[0, 1]], region2=[[0, 1]])
    assert_allclose(pairwise[0, :, 0, :], [[0, 0], [0, 1]], rtol=1e-6)


def test_what_cancels_is_computed_in_float64_or_refused():
    conv = np.array([[[3e7], [-3e7], [0.5]]], np.float32)  # in float32, its sum has no digit left
    one = np.ones((1, 1, 1))
    assert_allclose(compute_spatial_similarity(conv, one)[0].sum(), 1, rtol=1e-5)
    conv = np.random.default_rng(0).standard_normal((10, 10, 3)) * 1e20
    conv -= conv.mean(axis=(0, 1))  # what is left of the sum is rounding, in any order another
    for function in (compute_spatial_similarity, compute_pairwise_similarity):
        with pytest.raises(ValueError, match="conv1 and conv2: their values cancel"):
            function(conv, np.ones((1, 1, 3)))


def test_what_no_float_can_hold_is_refused():
    for function in (pool_features, local_features):
        with pytest.raises(ValueError, match="conv: its pooled feature leaves the range"):
            function(FEW[0] * 1e200, projection=(HEAD[0] * 1e200, None))


def test_masks_are_not_lost():
    masked = np.ma.masked_less(FEW[0], 0.5)
    with pytest.raises(ValueError, match="conv1: some of its values are masked"):
        compute_spatial_similarity(masked, FEW[1])
    with pytest.raises(ValueError, match="region: some of its values are masked"):
        pool_features(FEW[0], region=masked[..., 0])
    pool_features(np.ma.array(FEW[0]))


@given(pairs(), st.data())
def test_a_point_interpolates_the_four_cells_around_it(pair, data):
    conv1, conv2, options = pair
    pairwise = compute_pairwise_similarity(conv1, conv2, **options)
    for image, (height, width) in ((1, conv1.shape[:2]), (2, conv2.shape[:2])):
        y = data.draw(st.floats(-0.5, height - 0.5))
        x = data.draw(st.floats(-0.5, width - 0.5))
        cells = pairwise if image == 1 else pairwise.transpose(2, 3, 0, 1)
        expected = np.zeros(cells.shape[2:])
        for row, column in np.ndindex(height, width):
            share = max(0, 1 - abs(row - np.clip(y, 0, height - 1)))
            share *= max(0, 1 - abs(column - np.clip(x, 0, width - 1)))
            expected += share * cells[row, column]
        assert_allclose(point_similarity(pairwise, y, x, image), expected, atol=1e-12)


# --- errors name the argument and what came -------------------------------------------------------

GOOD = np.ones((3, 3, 4))
NOT_FINITE = GOOD.copy()
NOT_FINITE[1, 2, 3] = np.nan
INFINITE = GOOD.copy()
INFINITE[0, 1, 2], INFINITE[1, 1, 2] = np.inf, -np.inf


@pytest.mark.parametrize(
    "conv1, conv2, options, message",
    [
        (np.ones(4), GOOD, {}, r"conv1: .*got \(4,\)"),
        (GOOD, np.ones((1, 3, 3, 4)), {}, r"conv2: .*got \(1, 3, 3, 4\)"),
        (np.ones((8, 4)), GOOD, {}, r"conv1: .*square.*got shape \(8, 4\)"),
        (GOOD, np.ones((3, 3, 5)), {}, "conv1 and conv2: .*channels, got 4 and 5"),
        (np.ones((0, 3, 4)), GOOD, {}, r"conv1: .*at least 1.*\(0, 3, 4\)"),
        (GOOD, np.ones((3, 3, 0)), {}, r"conv2: .*at least 1.*\(3, 3, 0\)"),
        (NOT_FINITE, GOOD, {"region1": np.eye(3)}, "conv1: expected finite values, got nan"),
        (GOOD, INFINITE, {}, r"conv2: expected finite values, got inf"),
        (np.minimum(INFINITE, 1), GOOD, {"pooling": "max"}, "conv1: .*got -inf"),
        (GOOD, np.zeros((3, 3, 4)), {}, "conv2: .*all zero"),
        (GOOD * 1j, GOOD, {}, "conv1: expected an array of real numbers, got complex128"),
        ("room.jpg", GOOD, {}, "conv1: expected an array of real numbers, got str"),
        (GOOD, GOOD, {"pooling": "mean"}, "pooling: expected one of average, max, gem, got 'mean'"),
        (GOOD, GOOD, {"pooling": "gem", "power": 0.5}, "power: .*>= 1, got 0.5"),
        (GOOD, GOOD, {"pooling": "gem", "power": 3 + 0j}, r"power: .*got \(3\+0j\)"),
        (GOOD, GOOD, {"pooling": "gem", "power": 10**400}, r"power: .*got 1000.*\.\.\..*0$"),
        (GOOD, -GOOD, {"pooling": "gem"}, "conv2: GeM.*>= 0, got a minimum of -1"),
        (GOOD, GOOD, {"region1": np.zeros((3, 3))}, "region1: every weight is zero"),
        (GOOD, GOOD, {"region2": np.ones((3, 4))}, r"region2: .*\(3, 3\), got \(3, 4\)"),
        (GOOD, GOOD, {"region2": -np.ones((3, 3))}, "region2: expected weights >= 0.*-1"),
        (GOOD, GOOD, {"region1": NOT_FINITE[..., 3]}, "region1: expected finite.*nan"),
        (GOOD, GOOD, {"projection": np.ones((4, 2))}, "projection: .*pair.*got ndarray"),
        (GOOD, GOOD, {"projection": (np.ones((5, 2)), None)}, r"kernel: .*\(4, D\).*\(5, 2\)"),
        (GOOD, GOOD, {"projection": (np.ones((4, 2)), [1.0])}, r"bias: .*\(2,\), got \(1,\)"),
        (GOOD, GOOD, {"projection": (np.zeros((4, 2)), None)}, "conv1: .*all zero"),
    ],
)
def test_bad_input_is_named(conv1, conv2, options, message):
    for function in (compute_spatial_similarity, compute_pairwise_similarity):
        with pytest.raises(ValueError, match=message):
            function(conv1, conv2, **options)


PAIRWISE = np.ones((3, 4, 5, 6))
LOCAL = np.ones((3, 3, 2))


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        (point_similarity, (PAIRWISE, -0.6, 0), "y: .*position in -0.5..2.5 cells, got -0.6"),
        (point_similarity, (PAIRWISE, 0, 4), "x: .*position in -0.5..3.5 cells, got 4"),
        (point_similarity, (PAIRWISE, np.nan, 0), "y: .* got nan"),
        (point_similarity, (PAIRWISE, 0, 0, 3), "image: expected 1 or 2, got 3"),
        (point_similarity, (PAIRWISE, "a", 0), "y: .*cells, got 'a'"),
        (point_similarity, (PAIRWISE, 0, 1j), "x: .* got 1j"),
        (point_similarity, (PAIRWISE, 10**400, 0), "y: .* got 10000.*000$"),
        (point_similarity, (PAIRWISE * np.nan, 0, 0), "pairwise: expected finite values, got nan"),
        (point_similarity, (PAIRWISE * 1j, 0, 0), "pairwise: .*real numbers, got complex"),
        (strongest_matches, (LOCAL, 1), r"pairwise: .*shape .H1, W1, H2, W2., got \(3, 3, 2\)"),
        (strongest_matches, (PAIRWISE, 1.5), "count: expected a whole number >= 0, got 1.5"),
        (mutual_matches, (LOCAL, LOCAL, -1), "count: expected a whole number >= 0, got -1"),
        (mutual_matches, (LOCAL, 0 * LOCAL), "conv2: its pooled feature is all zero"),
        (mutual_neighbours, (LOCAL, LOCAL[..., :1]), r"features2: .*'?H'?, '?W'?, 2.*, got"),
        (mutual_neighbours, (LOCAL * np.inf, LOCAL), "features1: expected finite values"),
        (strongest_part, (np.zeros((0, 3)),), r"similarity: .*shape \(h, w\), got \(0, 3\)"),
        (strongest_part, ([[np.nan]],), "similarity: expected finite"),
        (best_box, (0 * LOCAL, (1, 0)), "local: all of it is zero"),
        (best_box, (LOCAL, (0, 0)), "feature: all of it is zero"),
        (best_box, (LOCAL, (1, 0, 0)), r"feature: expected shape \(2,\), got \(3,\)"),
        (tokens_to_map, (np.zeros(8),), r"tokens: expected .* got shape \(8,\)"),
        (tokens_to_map, (np.zeros((8, 3)), (2, 3), 1), "grid: 8 tokens, 1 .* make 2 x 3"),
        (tokens_to_map, (np.zeros((8, 3)), None, 2), "grid: 8 tokens, 2 .* make 2 x 2"),
        (tokens_to_map, (np.zeros((8, 3)), (0, 0), 8), "grid: 8 tokens, 8 .* make 0 x 0"),
        (tokens_to_map, (np.zeros((8, 3)), (3, 3), -1), "grid: 8 tokens, -1 .* make 3 x 3"),
    ],
)
def test_bad_arguments_of_the_other_functions_are_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


# --- matches -------------------------------------------------------------------------------------


def loop_matches(pairwise, count):
    """All pairs from the strongest down, each kept if it is well apart from those kept before."""
    kept = []
    for match in sorted(np.ndindex(pairwise.shape), key=lambda match: -pairwise[match]):
        far = (
            np.abs(np.subtract(match, np.reshape(kept, (-1, 4)))).reshape(-1, 2, 2).max(axis=2) > 1
        )
        if pairwise[match] > 0 and far.all() and len(kept) < count:
            kept.append(match)
    return kept


@given(
    st.tuples(*[st.integers(1, 5)] * 4),
    st.integers(0, 8),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 1000]),
)
def test_matches_are_the_strongest_pairs_that_are_well_apart(shape, count, seed, steps):
    rng = np.random.default_rng(seed)
    pairwise = rng.integers(-steps, steps + 1, shape) / steps  # with ties, and with hardly any
    pairwise.setflags(write=False)
    matches = strongest_matches(pairwise, count)
    assert matches.shape == (len(matches), 4) and matches.dtype == int
    assert list(map(tuple, matches)) == loop_matches(pairwise, count)


def loop_neighbours(features1, features2):
    """All pairs of cells, each kept if either is the first of the other's nearest."""
    cosines = {}
    for u in np.ndindex(features1.shape[:2]):
        for v in np.ndindex(features2.shape[:2]):
            sizes = np.linalg.norm(features1[u]) * np.linalg.norm(features2[v])
            cosines[u, v] = round(features1[u] @ features2[v] / sizes, 6) if sizes > 0 else 0.0
    nearest1 = {
        u: max(np.ndindex(features2.shape[:2]), key=lambda v: cosines[u, v]) for u, _ in cosines
    }
    nearest2 = {
        v: max(np.ndindex(features1.shape[:2]), key=lambda u: cosines[u, v]) for _, v in cosines
    }
    return [
        (*u, *v) for u, v in nearest1.items() if nearest2[v] == u and cosines[u, v] > 0
    ], cosines


SHAPES = st.tuples(*[st.integers(1, 5)] * 4)


@given(SHAPES, st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 99))
def test_neighbours_are_each_others_nearest(shape, channels, seed, largest, at_once):
    rng = np.random.default_rng(seed)
    # of few whole numbers, so that there are ties, cells of zero, and opposite ones
    one, two = (
        rng.integers(-largest, largest + 1, (*side, channels)).astype(np.float64)
        for side in (shape[:2], shape[2:])
    )
    expected, cosines = loop_neighbours(one, two)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("similarity_ops.COSINES_AT_ONCE", at_once)
        cells, found = mutual_neighbours(one, two)
    assert cells.shape == (len(found), 4) and cells.dtype == int and found.dtype == np.float64
    assert list(map(tuple, cells)) == expected
    assert_allclose(found, [cosines[tuple(c[:2]), tuple(c[2:])] for c in cells], atol=1e-6)
    swapped, _ = mutual_neighbours(two, one)
    assert {tuple(c) for c in swapped[:, [2, 3, 0, 1]]} == set(expected)
    scales = 10.0 ** rng.integers(-160, 161, (*shape[:2], 1))  # of its cells the cosine sees none
    assert_array_equal(mutual_neighbours(one * scales, two)[0], cells)


@given(SHAPES, st.sampled_from(POOLINGS), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_matches_come_by_what_they_add_with_both_numbers(shape, pooling, head, region, seed):
    rng = np.random.default_rng(seed)
    convs = [rng.random((*side, 3)) ** 2 for side in (shape[:2], shape[2:])]
    convs[0][0, 0] = 0
    options = {"pooling": pooling, "region1": None}
    options["projection"] = (rng.normal(size=(3, 2)), rng.normal(size=2)) if head else None
    if region:
        options["region1"] = rng.integers(0, 3, shape[:2]) / 2
        options["region1"].flat[-1] = 1
    if not convs[0].any() or (region and not convs[0][options["region1"] > 0].any()):
        convs[0] += 0.5
    cells, adds, cosines = mutual_matches(*convs, **options)
    both = {"pooling": pooling, "projection": options["projection"]}
    local1 = loop_local_features(convs[0], region=options["region1"], **both)
    local2 = loop_local_features(convs[1], **both)
    expected, by_pair = loop_neighbours(local1, local2)
    pairwise, *_ = loop_similarity(local1, local2)
    assert {tuple(c) for c in cells} == set(expected) and len(cells) == len(expected)
    assert_allclose(adds, [pairwise[tuple(c)] for c in cells], rtol=1e-6, atol=1e-12)
    assert_allclose(cosines, [by_pair[tuple(c[:2]), tuple(c[2:])] for c in cells], atol=1e-6)
    assert (np.diff(adds) <= 0).all() and (adds > 0).all()
    if region:
        assert (options["region1"][tuple(cells[:, :2].T)] > 0).all()
    for count in (0, 1, 99):
        assert_array_equal(mutual_matches(*convs, count, **options)[0], cells[:count])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_matches_of_an_image_with_itself_and_of_constant_ones(rng, kind):
    conv = rng.random((9, 11, 40)).astype(kind)
    conv[2, 3] = 0
    alive = [place * 2 for place in np.ndindex(9, 11) if place != (2, 3)]
    cells, _, cosines = mutual_matches(conv, conv)
    assert sorted(map(tuple, cells)) == alive
    assert_allclose(cosines, 1, atol=1e-6)
    conv[2, 3] = 3 * conv[2, 2]  # as like to the first as that is itself, which comes first
    assert sorted(map(tuple, mutual_matches(conv, conv)[0])) == alive
    for pooling in POOLINGS:
        flat = np.full((9, 11, 40), kind(0.3)), np.full((4, 5, 40), kind(0.7))
        cells, adds, cosines = mutual_matches(*flat, pooling=pooling)
        assert cells.tolist() == [[0, 0, 0, 0]] and np.isclose(cosines[0], 1)
        assert_allclose(adds, 1 / 99 / 20, rtol=1e-5)
    assert len(mutual_neighbours(-np.ones((2, 2, 3)), np.ones((2, 2, 3)))[0]) == 0


def test_matches_of_large_maps_take_little_memory(rng, monkeypatch):
    convs = rng.random((2, 48, 48, 8))
    monkeypatch.setattr("similarity_ops.COSINES_AT_ONCE", 2**16)
    tracemalloc.start()
    mutual_matches(*convs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48**4 * 8 / 8  # the pairwise tensor's, over eight


# --- tokens, and parts of maps and images ---------------------------------------------------------


def test_tokens_lie_row_by_row_after_those_that_are_no_place():
    tokens = np.arange(2 * 8 * 3.0).reshape(2, 8, 3)
    conv = tokens_to_map(tokens, (2, 3), 2)
    assert conv.shape == (2, 2, 3, 3)
    assert_array_equal(conv[1, 1, 2], tokens[1, 2 + 1 * 3 + 2])
    assert_array_equal(tokens_to_map(tokens[0, :5], prefix=1), tokens[0, 1:5].reshape(2, 2, 3))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_best_box_is_the_best_of_all_boxes(rows, columns, channels, seed):
    rng = np.random.default_rng(seed)
    local, feature = rng.standard_normal((rows, columns, channels)), rng.standard_normal(channels)
    cosines = {}
    for y0, y1 in combinations(range(rows + 1), 2):
        for x0, x1 in combinations(range(columns + 1), 2):
            crop = local[y0:y1, x0:x1].sum((0, 1))
            norms = np.linalg.norm(crop) * np.linalg.norm(feature)
            cosines[y0, x0, y1, x1] = crop @ feature / norms
    similarity, box = best_box(local, feature)
    assert_allclose(similarity, max(cosines.values()), atol=1e-9)
    assert_allclose(cosines[box], similarity, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_the_best_box_does_not_see_scale(rng, scale):
    local, feature = rng.standard_normal((3, 4, 5)), rng.standard_normal(5)
    (similarity, box), (scaled, same) = best_box(local, feature), best_box(scale * local, feature)
    assert_allclose(scaled, similarity, rtol=1e-12)
    assert same == box


def test_a_box_of_nothing_is_never_best(rng):
    local = np.zeros((3, 3, 2))
    local[1, 1] = (-1, 0.1)
    assert best_box(local, (1, 0))[1][:2] <= (1, 1)
    assert best_box(local, (1, 0))[0] < -0.9


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_strongest_part_is_what_a_flood_from_the_peak_reaches(rows, columns, seed):
    similarity = np.random.default_rng(seed).standard_normal((rows, columns))
    peak = np.unravel_index(similarity.argmax(), similarity.shape)
    reached, waiting = {peak}, [peak]
    while waiting:
        y, x = waiting.pop()
        for cell in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            inside = 0 <= cell[0] < rows and 0 <= cell[1] < columns
            if inside and cell not in reached and similarity[cell] >= similarity[peak] / 2 > 0:
                reached.add(cell)
                waiting.append(cell)
    assert set(zip(*np.nonzero(strongest_part(similarity)), strict=True)) == reached
