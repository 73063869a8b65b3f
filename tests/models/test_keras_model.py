"""Any Keras model: its maps sum to the cosine of its own output, or it is refused in words."""

import base64
import io
import json
import marshal
import os
import re
import resource
import runpy
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras_contract import assert_contract
from numpy.testing import assert_allclose

from models import load_network
from visualize_similarity import main, visualize_pair


@pytest.fixture
def images(rng):
    return list(rng.integers(0, 256, (2, 50, 70, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def fixed_weights():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session(free_memory=False)  # layers get their first names again


def backbone(size=(32, 32), channels=8):
    """Return an input and a feature map, (4, 4, channels) of 32 x 32 pixels."""
    inputs = keras.Input((*size, 3))
    x = layers.Conv2D(channels, 3, strides=4, padding="same", activation="relu")(inputs)
    return inputs, layers.Conv2D(channels, 3, strides=2, padding="same", name="last_conv")(x)


def pooled(layer=None, **options):
    inputs, x = backbone(**options)
    return inputs, (layer or layers.GlobalAveragePooling2D())(x)


def assert_explained(model, images, output=None, **options):
    return assert_contract(model, images, 1e-4, output, **options)


# --- families ------------------------------------------------------------------------------------


FAMILIES = {  # of keras.applications, with the size of their input
    **{"MobileNetV3Small": 64, "ResNet50": 64, "ResNet50V2": 64, "MobileNet": 64, "VGG16": 64},
    **{"MobileNetV2": 64, "EfficientNetB0": 64, "EfficientNetV2B0": 64, "DenseNet121": 64},
    **{"InceptionV3": 128, "Xception": 96, "NASNetMobile": 64, "ConvNeXtTiny": 64},
}


@pytest.mark.parametrize(
    "family",
    [
        "MobileNetV3Small",
        *(pytest.param(name, marks=pytest.mark.slow) for name in list(FAMILIES)[1:]),
    ],
)
def test_families_as_they_come_and_wrapped_as_users_do(family, images):
    shape = (FAMILIES[family], FAMILIES[family], 3)
    build = getattr(keras.applications, family)
    for argument, pooling in (("avg", "average"), ("max", "max")):
        base = build(include_top=False, weights=None, pooling=argument, input_shape=shape)
        assert assert_explained(base, images).pooling == pooling
    inputs = keras.Input(shape)
    x = layers.RandomRotation(0.2)(layers.RandomFlip()(inputs))
    x = base(layers.Rescaling(1 / 127.5, -1)(x))
    outputs = layers.UnitNormalization()(layers.Dense(16)(x))
    network = assert_explained(keras.Model(inputs, outputs), images)
    assert network.explain == "head" and network.projection[0].shape[1] == 16


# --- heads ---------------------------------------------------------------------------------------


def test_a_large_bias_costs_the_kernel_no_digits(images):
    inputs, x = pooled()
    head = layers.Dense(5, bias_initializer=keras.initializers.Constant(1e4))
    network = assert_explained(keras.Model(inputs, head(x)), images)
    kernel, bias = (value.numpy() for value in (head.kernel, head.bias))
    assert_allclose(network.projection[0], kernel, rtol=1e-3, atol=1e-6)
    assert_allclose(network.projection[1], bias, rtol=1e-6)


@pytest.mark.parametrize(
    "pooling, expected",
    [
        (lambda x: keras.ops.mean(x, axis=(1, 2)), "average"),
        (lambda x: keras.ops.max(x, axis=(1, 2)), "max"),
        (lambda x: layers.Flatten()(layers.AveragePooling2D(4)(x)), "average"),
        (lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x), "max"),
    ],
)
def test_poolings_are_measured_not_named(images, pooling, expected):
    inputs, x = backbone()
    network = assert_explained(keras.Model(inputs, pooling(x)), images)
    assert network.pooling == expected


# --- shapes of models ----------------------------------------------------------------------------


def test_the_backbone_and_its_pooling_may_lie_in_different_models(images):
    inputs, x = backbone()
    features = keras.Model(inputs, x)
    head_input = keras.Input((4, 4, 8))
    head = keras.Model(head_input, layers.Dense(3)(layers.GlobalMaxPooling2D()(head_input)))
    outer_input = keras.Input((32, 32, 3))
    model = keras.Model(outer_input, head(features(outer_input)))
    assert assert_explained(model, images).pooling == "max"


@pytest.mark.parametrize("size", [(32, 64), (None, None), (None, 48)])
def test_inputs_of_any_size(images, size):
    inputs, x = pooled(size=size)
    model = keras.Model(inputs, layers.Dense(4)(x))
    wanted = None if None not in size else (40, 48)
    network = assert_explained(model, images, input_size=wanted)
    assert network.input_size == (size if None not in size else (40, 48))
    if size == (None, None):
        assert load_network(model).input_size == (224, 224)


def test_two_outputs_need_a_word_where_both_could_be_meant(images):
    inputs, x = pooled()
    embedding = layers.Dense(6, name="embedding")(x)
    classes = layers.Dense(3, activation="softmax", name="classes")(embedding)
    model = keras.Model(inputs, [embedding, classes])
    output = keras.Model(inputs, embedding)
    assert_explained(model, images, output)  # the other one is no linear function
    other = layers.Dense(4, name="other")(x)
    model = keras.Model(inputs, [embedding, other])
    with pytest.raises(ValueError, match=r"2 of its 2 outputs.*layer=, of embedding, other"):
        load_network(model)
    assert_explained(model, images, output, layer="embedding")


def test_further_inputs_and_outputs_run_only_where_they_are_needed(images):
    inputs, x = backbone()
    words = keras.Input((7,), name="words")
    embedding = layers.Dense(6, name="embedding")(layers.GlobalAveragePooling2D()(x))
    both = layers.Concatenate(name="both")([embedding, layers.Dense(3)(words)])
    model = keras.Model([words, inputs], both)
    with pytest.raises(ValueError, match=r"both \(Concatenate\) merges 2 tensors.*words.*layer="):
        load_network(model)
    assert_explained(model, images, keras.Model(inputs, embedding), layer="embedding")


def test_a_siamese_wrapper_names_its_shared_model(images):
    inputs, x = pooled()
    shared = keras.Model(inputs, layers.Dense(6)(x), name="shared")
    left, right = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    siamese = keras.Model([left, right], layers.Dot(1)([shared(left), shared(right)]))
    with pytest.raises(ValueError, match=r"dot \(Dot\) merges 2 tensors.*layer="):
        load_network(siamese)
    assert_explained(siamese, images, shared, layer="shared")


def test_a_layer_explains_the_pooled_feature_before_a_nonlinear_head(images):
    inputs, x = backbone()
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(6, activation="relu", name="hidden")(x))
    message = r"pooling: average is not all that follows last_conv .*: hidden \(Dense\) is neither"
    with pytest.raises(ValueError, match=message):
        load_network(model, pooling="average")
    output = keras.Model(inputs, x)
    for layer in ("last_conv", "pool"):
        network = assert_explained(model, images, output, layer=layer)
        assert network.projection is None and network.explain == "pooled"
    nested = keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 255), model])
    front = keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 255), output])
    assert_explained(nested, images, front, layer="pool")


# --- refused in words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build, message",
    [
        (
            lambda: keras.Model(*backbone()),
            r"last_conv \(Conv2D\), is a feature map that nothing pools; say pooling=, av",
        ),
        (
            lambda: (lambda i: keras.Model(i, layers.Dense(3)(i)))(keras.Input((9,))),
            "back to the input, no feature map is pooled",
        ),
        (
            lambda: (lambda i, x: keras.Model(i, x[:, 1, 1]))(*backbone()),
            "depends on no more than one position of each feature map",
        ),
    ],
)
def test_what_has_no_place_to_look_at_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        load_network(build())


@pytest.mark.parametrize("graph", [False, True])
def test_a_network_that_fails_says_so(graph):
    inputs, x = backbone()
    x = keras.ops.take(x, [99], axis=1)
    model = keras.Model(inputs, layers.GlobalMaxPooling2D()(x))
    with pytest.raises(ValueError, match=r"network: it failed on a batch \(1, 32, 32, 3\)"):
        load_network(model, graph=graph)


def test_options_are_checked(images):
    model = keras.Model(*pooled())
    for options, message in (
        ({"layer": "nowhere"}, "layer: 0 layers are called 'nowhere'.*last_conv"),
        ({"preprocess": "bgr"}, "preprocess: .*got 'bgr'"),
        ({"pooling": "mean"}, "pooling: .*got 'mean'"),
        ({"weights": "imagenet"}, "weights: only a keras:NAME"),
        ({"input_size": (64, 64)}, r"input_size: the model takes \(32, 32\)"),
        ({"batch_norm": "batch"}, "batch_norm: .*no such option"),
    ):
        with pytest.raises(ValueError, match=message):
            load_network(model, **options)


def test_preprocessing_is_what_keras_calls_it(images):
    model = keras.Model(*pooled())
    pixels = load_network(model).preprocess(images)
    for how, mode in (("caffe", "caffe"), ("torch", "torch"), ("-1..1", "tf")):
        expected = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=mode)
        batch = load_network(model, preprocess=how).preprocess(images)
        assert_allclose(batch, expected, atol=1e-4)
    assert_allclose(load_network(model, preprocess="0..1").preprocess(images), pixels / 255)
    doubled = load_network(model, preprocess=lambda values: values * 2).preprocess(images)
    assert_allclose(doubled, pixels * 2)


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, images):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name, image in zip(("a.png", "b.png"), images, strict=True):
        Image.fromarray(image).save(name)
    return tmp_path


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_saved_and_loaded_again(folder, images, ending, capsys):
    inputs, x = pooled()
    model = keras.Model(inputs, layers.UnitNormalization()(layers.Dense(5)(x)))
    model.save(f"model{ending}")
    expected = visualize_pair(*images, load_network(model, preprocess="0..1"))
    command = ["a.png", "b.png", "--network", f"model{ending}", "--preprocess", "0..1"]
    assert main([*command, "--save-maps", "m.npz"]) == 0, capsys.readouterr()
    with np.load("m.npz") as maps:
        assert_allclose(maps["similarity1"], expected.similarity1, atol=1e-6)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_code_in_a_file_runs_only_where_the_user_says_so(folder, ending, capsys):
    inputs, x = pooled()
    witness = str(folder / "witness")
    code = layers.Lambda(lambda v: (open(witness, "w").close(), v)[1], output_shape=(8,))
    keras.Model(inputs, code(x)).save(f"model{ending}")
    (folder / "witness").unlink(missing_ok=True)
    command = ["a.png", "b.png", "--network", f"model{ending}"]
    assert main(command) == 2
    assert "say --allow-unsafe" in capsys.readouterr().err
    assert not (folder / "witness").exists()
    assert main([*command, "--allow-unsafe"]) == 0, capsys.readouterr()
    assert (folder / "witness").exists()


OLD = "saved by Keras 2.21.0, .* build the network in Keras 3, load its weights with "


@pytest.mark.parametrize(
    "kind, version, message",
    [
        ("TFOpLambda", "2.21.0", OLD),
        ("SlicingOpLambda", "2.4.0", "saved by Keras 2.4.0, "),
        ("Convolution2D", "1.2.2", "saved by Keras 1.2.2, "),
        ("AlphaLambdaNorm", keras.__version__, "registers it with import_file="),
        ("LaterLayer", "99.0.0", "saved by Keras 99.0.0, which is newer than .* here: install"),
    ],
)
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_advice_for_a_file_that_keras_does_not_know_can_help(
    folder, ending, kind, version, message
):
    inputs, x = pooled()
    keras.Model(inputs, layers.Dense(3, name="changed")(x)).save(f"m{ending}")

    def changed(content):
        content = json.loads(content)
        content["config"]["layers"][-1].update(class_name=kind, module="own", registered_name=kind)
        return json.dumps(content)

    edited(f"m{ending}", changed)
    if ending == ".h5":
        with h5py.File("m.h5", "r+") as file:
            file.attrs["keras_version"] = version
    else:
        edited("m.keras", lambda _: json.dumps({"keras_version": version}), "metadata.json")
    with pytest.raises(ValueError, match=message) as raised:
        load_network(f"m{ending}")
    assert "unsafe" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_weights_of_keras_2_go_into_the_network_as_the_advice_says(folder, ending):
    tf_keras = pytest.importorskip("tf_keras")

    def build(keras, scaled):
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.DepthwiseConv2D(3)(scaled(keras.layers.Conv2D(4, 3)(inputs)))
        return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))

    old, new = build(tf_keras, lambda x: 2.0 * x), build(keras, layers.Rescaling(2.0))
    old.save(f"old{ending}")
    with pytest.raises(ValueError, match=OLD):
        load_network(f"old{ending}")
    new.load_weights(f"old{ending}")
    new.save("new.keras")
    network = load_network("new.keras")
    batch = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    assert_allclose(network.embed(batch), old(batch), atol=1e-6)


def test_weights_alone_are_said_to_be(folder):
    inputs, x = pooled()
    keras.Model(inputs, x).save_weights("w.weights.h5")
    with pytest.raises(ValueError, match="weights alone: build the network in Keras, load"):
        load_network("w.weights.h5")


def test_an_application_with_weights_of_a_file_and_random_ones(folder, images):
    base = keras.applications.MobileNet(include_top=False, weights=None)
    base.save_weights("own.weights.h5")
    options = {"input_size": (64, 64)}
    network = load_network("keras:MobileNet", weights="own.weights.h5", **options)
    assert network.description == "average pooling after conv_pw_13_relu, pixels by a function"
    batch = network.preprocess(images)
    pixels = load_network(base, pooling="average", **options).preprocess(images)
    assert_allclose(batch, keras.applications.mobilenet.preprocess_input(pixels))
    assert_allclose(network.embed(batch), keras.ops.mean(base(batch), (1, 2)), atol=1e-5)
    random = load_network("keras:MobileNet", weights="none", **options)
    assert random.fingerprint() != network.fingerprint()


def edited(path, change, name="config.json"):
    """Write a .keras file again with one of its members changed, or an .h5 file's configuration."""
    if Path(path).suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = change(file.attrs["model_config"])
        return
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def widened(**values):
    """Return a change of a configuration: other numbers, and shapes to build that are not told."""

    def change(node):
        if isinstance(node, dict):
            return {key: values.get(key, change(value)) for key, value in node.items()}
        return [change(value) for value in node] if isinstance(node, list) else node

    return lambda config: json.dumps(change(json.loads(config))).encode()


def huge_weights(content):
    """An array of 3 GB, of which nothing is stored."""
    with h5py.File(io.BytesIO(content), "r+") as file:
        file.create_dataset("huge", (750_000_000,), "f4", chunks=(1000,))
        file.flush()
        return file.id.get_file_image()


@pytest.mark.parametrize(
    "name, change, message",
    [
        (".h5", widened(units=300_000_000), "its layers would take"),
        ("config.json", widened(units=300_000_000, build_config=None), "its layers would take"),
        ("config.json", widened(filters=60_000, build_config=None), "its layers would take"),
        ("config.json", widened(batch_shape=[None, 20_000, 20_000, 3]), "numbers of an image"),
        ("model.weights.h5", huge_weights, "its arrays would take 2861 MB"),
        ("assets.bin", lambda content: bytes(300_000_000), "its files unpacked would take"),
    ],
)
def test_a_small_file_that_asks_for_much_is_refused(tmp_path, name, change, message):
    inputs, x = pooled(size=(64, 64))
    model = keras.Model(inputs, layers.Dense(5)(layers.Dense(4)(x)))
    path = tmp_path / ("m.h5" if name == ".h5" else "m.keras")
    model.save(path)
    load_network(path)
    if name == "assets.bin":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"")
    edited(path, change, name)
    assert path.stat().st_size < 400_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"{path.name}: cannot be loaded: .*{message}"):
        load_network(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes
    keras.Model(*pooled())  # what comes after is not disturbed


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def marshalled():
    """Return Python code as Keras 2 wrote it, which leaves a file behind if it runs."""
    code = compile("lambda x: (open('witness', 'w').close(), x)[1]", "", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


HOSTILE = {  # what a layer of a stranger's file is replaced by
    "code of Keras 2": ("Lambda", {"function": [marshalled(), None, None]}),
    "code of Keras 3": (
        "Lambda",
        {"function": {"class_name": "__lambda__", "config": {"code": marshalled()}}},
    ),
    "a module": ("Lambda", {"function": function("os", "system")}),
    "a download": ("Lambda", {"function": function("keras.datasets.mnist", "load_data")}),
    "a setting": ("Lambda", {"function": function("keras.config", "set_floatx")}),
    "a function of functions": ("Lambda", {"function": function("keras.ops", "cond")}),
    "a lookup in a file": ("StringLookup", {"vocabulary": "fifo"}),
    "numbers in a file": ("IntegerLookup", {"vocabulary": "fifo"}),
    "a saved model": ("TFSMLayer", {"filepath": "fifo"}),
}


@pytest.mark.parametrize(
    "ending, nested",
    [
        (".keras", False),
        (".h5", True),
        pytest.param(".keras", True, marks=pytest.mark.slow),
        pytest.param(".h5", False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("layer", HOSTILE)
def test_nothing_of_a_strangers_file_runs_or_reaches_out(folder, layer, ending, nested):
    inputs, x = backbone()
    x = layers.Activation("relu", name="changed")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    if nested:
        model = keras.Sequential([keras.Input((32, 32, 3)), model])
    model.save(f"m{ending}")
    os.mkfifo("fifo")  # of which a reader would wait for ever
    kind, config = HOSTILE[layer]

    def replace(node):
        if isinstance(node, list):
            return [replace(value) for value in node]
        if not isinstance(node, dict):
            return node
        if node.get("class_name") == "Activation" and node["config"]["name"] == "changed":
            node = {**node, "class_name": kind, "config": {"name": "changed", **config}}
            old = isinstance(config.get("function"), list)
            if ending == ".h5" and "function" in config:
                node["config"]["function_type"] = "lambda" if old else "function"
            return node
        return {key: replace(value) for key, value in node.items()}

    edited(f"m{ending}", lambda content: json.dumps(replace(json.loads(content))))
    reason = ".*no part of a model" if '"module"' in json.dumps(config) else ""
    with pytest.raises(ValueError, match=f"m{ending}: cannot be loaded: {reason}"):
        load_network(f"m{ending}")
    assert not os.path.exists("witness")


@pytest.mark.parametrize("hide", ["external data", "external link", "soft link"])
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_weights_lie_in_the_file_itself(folder, ending, hide):
    inputs, x = pooled()
    keras.Model(inputs, layers.Dense(4)(x)).save(f"m{ending}")
    with h5py.File("other.h5", "w") as file:
        file["kernel"] = np.zeros((8, 4), np.float32)
    np.zeros(32, np.float32).tofile("secret")

    def changed(content):
        with h5py.File(io.BytesIO(content), "r+") as file:
            names = []
            file.visititems(lambda name, item: names.append(name))
            name = next(name for name in names if getattr(file[name], "shape", None) == (8, 4))
            del file[name]
            if hide == "external data":
                file.create_dataset(name, (8, 4), "f4", external=[("secret", 0, 128)])
            elif hide == "external link":
                file[name] = h5py.ExternalLink("other.h5", "kernel")
            else:
                file["elsewhere"] = np.zeros((8, 4), np.float32)
                file[name] = h5py.SoftLink("/elsewhere")
            file.flush()
            return file.id.get_file_image()

    if ending == ".keras":
        edited("m.keras", changed, "model.weights.h5")
    else:
        Path("m.h5").write_bytes(changed(Path("m.h5").read_bytes()))
    with pytest.raises(ValueError, match="is a link|in another file"):
        load_network(f"m{ending}")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_random_numbers_are_not_drawn_for_a_file(folder, ending, monkeypatch):
    inputs, x = pooled()
    layer = layers.Dense(4, kernel_initializer="orthogonal")
    model = keras.Model(inputs, layer(x))
    model.save(f"m{ending}")

    def draw(*args, **options):
        raise AssertionError("drawn")

    monkeypatch.setattr(keras.initializers.Orthogonal, "__call__", draw)
    kernel, _ = load_network(f"m{ending}").projection
    assert_allclose(kernel, layer.kernel, atol=1e-5)


def test_a_file_of_very_many_layers_is_refused(folder):
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.ReLU(name="one")])
    model.save("m.keras")

    def many(content):
        config = json.loads(content)
        *others, last = config["config"]["layers"]
        named = ({**last, "config": {**last["config"], "name": f"r{i}"}} for i in range(20_000))
        return json.dumps({**config, "config": {"layers": [*others, *named]}})

    edited("m.keras", many)
    with pytest.raises(ValueError, match="m.keras: cannot be loaded: it has over 5000 layers"):
        load_network("m.keras")


def test_a_small_file_of_weights_that_asks_for_much_is_refused(folder):
    with h5py.File("w.weights.h5", "w") as file:
        file.create_dataset("huge", (750_000_000,), "f4", chunks=(1000,))
    options = {"weights": "w.weights.h5", "input_size": (32, 32)}
    with pytest.raises(ValueError, match="keras:MobileNet: its arrays would take 2861 MB"):
        load_network("keras:MobileNet", **options)


def test_a_softmax_over_many_classes_takes_no_square_of_them(images):
    inputs, x = pooled()
    logits = layers.BatchNormalization()(layers.Dense(20_000)(x))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load_network(keras.Model(inputs, layers.Softmax()(logits)))
    assert load_network(keras.Model(inputs, logits)).projection[0].shape == (8, 20_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kilobytes


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_registered_function_may_be_an_activation(folder, ending):
    @keras.saving.register_keras_serializable("own")
    def halved(x):
        return x / 2

    inputs, x = backbone()
    x = layers.GlobalAveragePooling2D()(layers.Activation(halved)(x))
    model = keras.Model(inputs, layers.Dense(4, activation="relu")(x))
    model.save(f"m{ending}")
    assert load_network(f"m{ending}").name == f"m{ending}"


@pytest.mark.parametrize(
    "network, message",
    [
        ("nowhere.keras", "nowhere.keras: no such model file"),
        ("text.keras", "text.keras: cannot be loaded"),
        ("text.h5", "text.h5: cannot be loaded"),
        ("saved", "saved: a folder; .*save it again with model.save"),
        ("keras:resnet50", "--network: there is no keras:resnet50, did you mean keras:ResNet50.$"),
        ("keras:Zzz", "--network: there is no keras:Zzz; keras.applications has .*VGG16"),
        ("keras:MobileNet --weights nowhere.h5", "nowhere.h5: no such weights file"),
        ("keras:MobileNet --weights text.h5", "keras:MobileNet: "),
    ],
)
def test_bad_networks_are_one_line(folder, capsys, network, message):
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"")
    for name in ("text.keras", "text.h5"):
        (folder / name).write_text("no model")
    assert main(["a.png", "b.png", "--network", *network.split()]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and len(error.splitlines()) == 1


def test_layers_of_ones_own_are_registered_by_a_file(folder, images, capsys):
    (folder / "own.py").write_text(
        "import keras\n\n\n"
        "@keras.saving.register_keras_serializable('own')\n"
        "class Doubled(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    doubled = runpy.run_path("own.py")["Doubled"]
    inputs, x = pooled()
    keras.Model(inputs, layers.Dense(3)(doubled()(x))).save("own.keras")
    keras.saving.get_custom_objects().clear()
    command = ["a.png", "b.png", "--network", "own.keras"]
    assert main(command) == 2
    assert "Could not locate class 'Doubled'" in (error := capsys.readouterr().err)
    assert error.endswith("registers it with --import\n") and len(error.splitlines()) == 1
    assert main([*command, "--import", "own.py"]) == 0
    assert "running own.py" in capsys.readouterr().err
    (folder / "broken.py").write_text("1 / 0")
    for name, message in (("broken.py", "ZeroDivisionError"), ("gone.py", "no such file")):
        assert main([*command, "--import", name]) == 2
        assert f"--import: {name}: {message}" in capsys.readouterr().err
