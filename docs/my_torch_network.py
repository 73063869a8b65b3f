"""A network of PyTorch for --network my_torch_network.py:build; put your own module in."""

import numpy as np
import torch
from torch import nn

from simvis import from_torch
from simvis.image_ops import resize


def preprocess(images):
    """Return what the module takes of a list of RGB uint8 arrays."""
    pixels = np.stack([resize(image, (224, 224)) for image in images]).astype(np.float32)
    return torch.tensor(pixels / 127.5 - 1).permute(0, 3, 1, 2)


def build():
    torch.manual_seed(0)  # instead of weights, as module.load_state_dict(torch.load(FILE)) has them
    module = nn.Sequential(
        nn.Conv2d(3, 32, 7, stride=8, padding=3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.GELU(),
        nn.Linear(32, 16),
    )
    return from_torch(module, input_size=(224, 224), preprocess=preprocess)
