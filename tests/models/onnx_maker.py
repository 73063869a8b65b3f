"""Small ONNX models, made node by node."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")


def write_model(path, kind, count="N", dtype=np.float32):
    """Write a convolution, a pooling, a linear head and a normalisation; or two layers."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"kernel": (16, 3, 8, 8), "head": (16, 6), "bias": (6,), "second": (6, 5)}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays["kernel"] /= 14
    arrays |= {"power": 2.5, "inverse": 1 / 2.5, "least": 1e-6}
    arrays = {name: np.asarray(each, dtype) for name, each in arrays.items()}
    arrays["shape"] = np.array([0, -1])
    node, pooled = helper.make_node, "GlobalMaxPool" if kind == "max" else "GlobalAveragePool"
    nodes = [
        node("Conv", ["image", "kernel"], ["conv"], strides=[8, 8]),
        node("Relu", ["conv"], ["rectified"], name="relu"),
    ]
    if kind == "gem":
        nodes += [
            node("Max", ["rectified", "least"], ["above"]),
            node("Pow", ["above", "power"], ["powers"]),
            node(pooled, ["powers"], ["mean"]),
            node("Pow", ["mean", "inverse"], ["pooled"]),
        ]
    else:
        nodes.append(node(pooled, ["rectified"], ["pooled"]))
    nodes += [
        node("Reshape", ["pooled", "shape"], ["flat"]),
        node("Gemm", ["flat", "head", "bias"], ["vector"]),
    ]
    if kind == "mlp":
        nodes.append(node("Relu", ["vector"], ["hidden"]))
        nodes.append(node("MatMul", ["hidden", "second"], ["embedding"]))
    else:
        nodes.append(node("LpNormalization", ["vector"], ["embedding"], axis=1, p=2))
    kinds = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "embedder",
        [helper.make_tensor_value_info("image", kinds, [count, 3, 64, 64])],
        [helper.make_tensor_value_info("embedding", kinds, [count, 5 if kind == "mlp" else 6])],
        [numpy_helper.from_array(each, name) for name, each in arrays.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


def outputs_of(path, batch):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    kind = np.float16 if "16" in session.get_inputs()[0].type else np.float32
    count = session.get_inputs()[0].shape[0]
    count = count if isinstance(count, int) else len(batch)
    rows = [batch[[min(i, len(batch) - 1) for i in range(count)]].astype(kind)]
    if count < len(batch):
        rows = [batch[i : i + 1].astype(kind) for i in range(len(batch))]
    found = np.concatenate([session.run(None, {"image": each})[0] for each in rows])
    return found[: len(batch)].astype(np.float32)
