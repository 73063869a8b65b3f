"""A network that a Python file of the user's own makes, ``FILE.py:FUNCTION``."""

import importlib.util
import os
import sys
import traceback
from pathlib import Path

from simvis.models.network import EmbeddingNetwork


def split(name):
    """Return (path, function) of ``FILE.py:FUNCTION``, or None if it is something else.

    Examples
    --------
    >>> split("my_network.py:build"), split("keras:VGG16")
    (('my_network.py', 'build'), None)
    """
    path, colon, function = str(name).rpartition(":")
    if not colon and str(name).endswith(".py"):
        path, function = str(name), ""
    return (path, function) if path.endswith(".py") else None


def absolute(name):
    """Return the name with the file's absolute path, as for another process."""
    path, function = split(name)
    return f"{os.path.abspath(path)}:{function}"


def load(name):
    """Run the file, call its function without arguments, and return what that returns.

    The folder of the file is where it imports from first, as if Python ran it.  Raises a ValueError
    or a FileNotFoundError, in one line, whatever the file does.
    """
    path, function = split(name)
    if not function.isidentifier():
        raise ValueError(f"network: say which function of {path} makes it, {path}:FUNCTION")
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"network: {path}: no such file")
    if (folder := os.path.dirname(path)) not in sys.path:
        sys.path.insert(0, folder)
    try:
        stem = f"_network_of_{Path(path).stem}"
        spec = importlib.util.spec_from_file_location(stem, path)
        module = sys.modules[stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not callable(getattr(module, function, None)):
            raise ValueError(f"there is no function {function}")
        network = getattr(module, function)()
    except (Exception, SystemExit) as error:
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__)]
        files = [each.filename for each in traceback.extract_tb(error.__traceback__)]
        where = [line for line, file in zip(lines, files, strict=True) if file == path]
        place = f"{path}, line {where[-1]}" if where else path
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"network: {place}: {reason}") from error
    if not (isinstance(network, EmbeddingNetwork) or hasattr(network, "layers")):
        raise ValueError(
            f"network: {path}: {function} returned {type(network).__name__}, expected an "
            "EmbeddingNetwork, as of from_torch, from_onnx or from_functions, or a keras.Model"
        )
    return network
