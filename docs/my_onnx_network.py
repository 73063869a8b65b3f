"""An ONNX model for --network my_onnx_network.py:build, which lies beside this file."""

from pathlib import Path

import numpy as np

from simvis import from_onnx
from simvis.image_ops import resize

MODEL = Path(__file__).with_name("embedder.onnx")


def preprocess(images):
    """Return what the model takes of a list of RGB uint8 arrays, (N, 3, H, W)."""
    pixels = np.stack([resize(image, (64, 64)) for image in images]).astype(np.float32)
    return (pixels / 127.5 - 1).transpose(0, 3, 1, 2)


def build():
    return from_onnx(MODEL, input_size=(64, 64), preprocess=preprocess)
