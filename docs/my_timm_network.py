"""A network of timm for --network my_timm_network.py:build; any of its names will do."""

import timm
import torch
from PIL import Image

from simvis import from_torch

NAME, PRETRAINED = "vit_small_patch14_dinov2.lvd142m", True


def build():
    module = timm.create_model(NAME, pretrained=PRETRAINED, num_classes=0)
    config = timm.data.resolve_model_data_config(module)
    # whole images, without the crop that timm takes of them otherwise
    prepare = timm.data.create_transform(**{**config, "crop_pct": 1.0, "crop_mode": "squash"})

    def preprocess(images):
        return torch.stack([prepare(Image.fromarray(image)) for image in images])

    return from_torch(module, input_size=config["input_size"][1:], preprocess=preprocess, name=NAME)
