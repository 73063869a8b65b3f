"""Where Keras models come from, and what pixels they are given."""

import difflib
import importlib
import json
import re
import runpy
import sys
import zipfile
from contextlib import redirect_stdout, suppress
from pathlib import Path

import h5py
import keras
import numpy as np

from simvis.models.keras_models.limits import check_weights_file, load_model_file

PREPROCESS = {  # of float32 RGB pixels in 0..255
    "none": lambda pixels: pixels,
    "0..1": lambda pixels: pixels / 255,
    "-1..1": lambda pixels: pixels / 127.5 - 1,
    "caffe": lambda pixels: pixels[..., ::-1] - np.float32([103.939, 116.779, 123.68]),
    "torch": lambda pixels: (
        (pixels / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    ),
}
DEFAULT_SIZE = 224
GREY = np.float32([[0.299], [0.587], [0.114]])  # what RGB add to a picture of one channel, BT.601
MAX_SIDE = 2048  # pixels, of what goes into a network
SIZES = {  # of the applications that were trained on other sizes
    **dict.fromkeys(("InceptionV3", "InceptionResNetV2", "Xception"), 299),
    **{"NASNetLarge": 331, "EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300},
    **{"EfficientNetB4": 380, "EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600},
    **{"EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300},
    **{"EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480},
}


# What Keras says of a part of a model that it does not know.
UNKNOWN = r"Unknown layer|Could not (locate|deserialize|interpret)|argument|KerasSaveable"


def find(source, pooling, input_size, weights, import_file, allow_unsafe):
    """Return the model that a model, a file or keras:NAME stands for, and its own preprocessing.

    That is the preprocess_input of an application, else None.
    """
    if isinstance(source, str) and source.startswith("keras:"):
        return _application(source, weights, pooling, input_size)
    if weights is not None:
        raise ValueError("weights: only a keras:NAME network has weights apart from the model")
    if import_file is not None:  # which is run for what it registers with Keras
        if not Path(import_file).is_file():
            raise FileNotFoundError(f"import_file: {import_file}: no such file")
        print(f"running {import_file}", file=sys.stderr)
        if (folder := str(Path(import_file).absolute().parent)) not in sys.path:
            sys.path.insert(0, folder)  # for the modules beside it, as if Python ran it
        try:
            runpy.run_path(str(import_file))
        except Exception as error:
            kind = type(error).__name__
            raise ValueError(f"import_file: {import_file}: {kind}: {_one_line(error)}") from None
    if isinstance(source, (str, Path)):
        source = _read(Path(source), allow_unsafe)
    return source, None


def preprocessing(how):
    """Return the function of float32 RGB pixels (N, H, W, 3) in 0..255 that a name stands for."""
    if callable(how):
        return how
    if how is not None and how not in PREPROCESS:
        raise ValueError(
            f"preprocess: expected a function or one of {', '.join(PREPROCESS)}, got {how!r}"
        )
    return PREPROCESS[how or "none"]


def input_size_of(shape, wanted):
    """Return the (height, width) of the images that an input of this shape takes."""
    if len(shape) != 4 or shape[-1] not in (1, 3, None):
        raise ValueError(f"model: expected input (N, H, W, 3 or 1), channels last, got {shape}")
    own = tuple(shape[1:3])
    if max(side or 0 for side in own) > MAX_SIDE:
        raise ValueError(f"model: expected input of at most {MAX_SIDE} pixels a side, got {own}")
    if wanted is not None and any(o not in (None, w) for o, w in zip(own, wanted, strict=True)):
        raise ValueError(f"input_size: the model takes {own}, not {tuple(wanted)}")
    return tuple(o or w for o, w in zip(own, wanted or (DEFAULT_SIZE,) * 2, strict=True))


def as_graph(model, input_size):
    """Return a Sequential that was never called with an input of its own, and others as they are.

    It has no weights yet, so that the copy says as much as the model, which stays as it is.
    """
    if type(model) is not keras.Sequential or model.built:
        return model
    copy = keras.Sequential.from_config(model.get_config())
    copy.build((None, *(input_size or (DEFAULT_SIZE,) * 2), 3))
    return copy


def _application(name, weights, pooling, input_size):
    """Build keras:NAME; return it and its own preprocess_input."""
    builder = getattr(keras.applications, name.removeprefix("keras:"), None)
    if not callable(builder):
        known = sorted(key for key, value in vars(keras.applications).items() if callable(value))
        lower = {key.lower(): key for key in known}
        close = difflib.get_close_matches(name.removeprefix("keras:").lower(), lower, 1)
        if close:
            raise ValueError(f"network: there is no {name}, did you mean keras:{lower[close[0]]}?")
        raise ValueError(f"network: there is no {name}; keras.applications has {', '.join(known)}")
    size = input_size or (SIZES.get(builder.__name__, DEFAULT_SIZE),) * 2
    if weights not in (None, "imagenet", "none") and not Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: no such weights file")
    try:
        if weights not in (None, "imagenet", "none"):
            check_weights_file(Path(weights))
        with redirect_stdout(sys.stderr):  # where Keras says what it downloads
            model = builder(
                include_top=False,
                weights=None if weights == "none" else weights or "imagenet",
                input_shape=(*size, 3),
                pooling="max" if pooling == "max" else "avg",
            )
    except Exception as error:
        problem = f"{name}: {_one_line(error)}"
        if weights in (None, "imagenet"):
            ways = "give a file with weights=, or say weights='none' for random ones"
            raise OSError(f"{problem}; its weights cannot be fetched, {ways}") from None
        raise ValueError(problem) from None
    return model, importlib.import_module(builder.__module__).preprocess_input


def _read(path, allow_unsafe):
    """Read a model file; the Python code in it runs only if allow_unsafe says so."""
    if path.is_dir():
        raise ValueError(
            f"{path}: a folder; open it with the Keras or TensorFlow that made it and save it "
            "again with model.save('NAME.keras')"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ValueError(f"{path}: expected a model file ending in .keras or .h5")
    try:
        if allow_unsafe:
            return keras.saving.load_model(path, compile=False, safe_mode=False)
        return load_model_file(path)
    except MemoryError:
        raise ValueError(f"{path}: takes more memory to load than there is") from None
    except Exception as error:
        reason = _one_line(error) or "it is damaged"
        if "safe_mode=False" in str(error) and "ambda" in str(error) and not allow_unsafe:
            reason = "it holds Python code (a Lambda), which loading would run; if you trust it, "
            reason += "say allow_unsafe=True"
        else:
            reason += _advice(reason, path)
        raise ValueError(f"{path}: cannot be loaded: {reason}") from None


def _advice(reason, path):
    """Return what may help with a file that Keras's loader fails at, "" if nothing is known."""
    saved, by_hand = _version(path), f"load its weights with model.load_weights({str(path)!r})"
    if "No model config" in reason:
        return f"; it holds weights alone: build the network in Keras, {by_hand}, and save it whole"
    if "bad marshal data" in reason:
        return "; its code is of another version of Python, save the model again without a Lambda"
    if not re.search(UNKNOWN, reason):
        return ""
    register = "name the Python file that registers it with import_file="
    if saved and saved[0] < 3:
        return (
            f"; it was saved by Keras {'.'.join(map(str, saved))}, parts of which Keras 3 does not "
            f"read: build the network in Keras 3, {by_hand}, and save it as NAME.keras; or, of "
            f"a layer of your own, {register}"
        )
    if saved > _numbers(keras.__version__):
        newer = f"Keras {'.'.join(map(str, saved))}, which is newer than {keras.__version__} here"
        return f"; it was saved by {newer}: install that; or, of a layer of your own, {register}"
    return f"; {register}"


def _version(path):
    """Return the version of Keras that saved a file, a tuple of integers, () if it is not known."""
    with suppress(Exception):
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as file:
                return _numbers(json.loads(file.read(1000))["keras_version"])
        with h5py.File(path) as file:
            return _numbers(file.attrs["keras_version"])
    return ()


def _numbers(version):
    version = version.decode() if isinstance(version, bytes) else version
    return tuple(map(int, re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version).groups()))


def _one_line(error):
    """Return the point of a message of Keras, without the configurations around it."""
    words = " ".join(str(error).split()).rpartition("Exception encountered: ")[2]
    return words.partition("Full object config:")[0].strip()[:600]
