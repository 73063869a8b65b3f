"""ONNX models that pool, exactly; others are refused with the way out."""

import numpy as np
import pytest
from onnx_maker import outputs_of, write_model
from own_contract import SIZE, assert_explains, channels_first, pictures

onnxruntime = pytest.importorskip("onnxruntime")

from simvis import from_onnx  # noqa: E402


def make(path, layer=None, **options):
    return from_onnx(path, layer, input_size=SIZE, preprocess=channels_first, **options)


WAYS = {"average": "average", "max": "max", "gem": "GeM pooling of power 2.5"}


@pytest.mark.parametrize("count", ["N", 1, 3])
@pytest.mark.parametrize("kind", WAYS)
def test_poolings_and_linear_heads_are_found(kind, count, rng, tmp_path):
    path, images = tmp_path / "model.onnx", pictures(rng)
    write_model(path, kind, count)
    expected = outputs_of(path, channels_first(images))
    network = assert_explains(make(path), images, expected, 1e-5, WAYS[kind])
    assert "and a linear head" in network.description
    named = make(onnxruntime.InferenceSession(path), "relu", pooling=network.pooling)
    assert named.fingerprint() == network.fingerprint()
    assert_explains(named, images, expected, 1e-5, "after rectified")


def test_half_precision(rng, tmp_path):
    path, images = tmp_path / "model.onnx", pictures(rng)
    write_model(path, "average", dtype=np.float16)
    network = make(path)
    assert network.tolerance > 1e-4
    assert_explains(network, images, outputs_of(path, channels_first(images)), 5e-3)


REFUSED = {
    "bent": ("mlp", {}, "needs a gradient.*from_torch"),
    "another pooling": ("average", {"pooling": "max"}, "pooling: average follows"),
    "no such layer": ("average", {"layer": "layer4"}, "layer: expected a feature map .* rectified"),
    "no such output": ("average", {"output": "logits"}, "output: say which one of embedding"),
    "channels last": (
        "average",
        {"preprocess": lambda images: channels_first(images).transpose(0, 2, 3, 1)},
        "network: it failed on a batch",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path):
    kind, options, words = REFUSED[case]
    write_model(tmp_path / "model.onnx", kind)
    options = {"input_size": SIZE, "preprocess": channels_first, "layer": None, **options}
    with pytest.raises(ValueError, match=words):
        from_onnx(tmp_path / "model.onnx", options.pop("layer"), **options)


def test_what_is_no_model_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        make(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="no ONNX model that can be read"):
        make(tmp_path / "text.onnx")


def test_weights_of_another_folder_are_not_read(tmp_path):
    import onnx

    (tmp_path / "inside").mkdir()
    write_model(tmp_path / "model.onnx", "average")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.save(
        model, tmp_path / "moved.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    text = (tmp_path / "moved.onnx").read_bytes()
    model = onnx.load(tmp_path / "moved.onnx", load_external_data=False)
    for each in model.graph.initializer:
        for entry in each.external_data:
            entry.value = "../w" if entry.key == "location" else entry.value
    (tmp_path / "inside" / "moved.onnx").write_bytes(model.SerializeToString())
    assert text and make(tmp_path / "moved.onnx").pooling == "average"
    with pytest.raises(ValueError, match="no ONNX model that can be read"):
        make(tmp_path / "inside" / "moved.onnx")
