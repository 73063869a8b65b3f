"""Many images through a network: how many are read at once, and that all come back in order."""

from threading import Barrier, Lock

import numpy as np
import pytest
from galleries import color_network

from models.network import FUNCTIONS, LITERT
from simvis.batch import pipeline
from simvis.batch.pipeline import DECODED, stream_activations

ENGINES = [(LITERT, 1), (FUNCTIONS, 1), (FUNCTIONS, 4)]
WAIT = 60  # seconds, after which a barrier fails the test


def stream(paths, read, engine, batch_size, **options):
    network = color_network(engine=engine)
    run = network.run
    return list(stream_activations(paths, run, network, read, batch_size, **options))


@pytest.mark.parametrize("engine, batch_size", ENGINES)
def test_so_many_readers_read_at_once(engine, batch_size):
    barrier = Barrier(16)

    def read(path):
        barrier.wait(WAIT)
        return np.full((28, 28, 3), path, np.uint8), str(path)

    found = stream(range(32), read, engine, batch_size, readers=16)
    assert [each.contents for each in found] == [str(path) for path in range(32)]
    assert [each.conv[0, 0, 0] for each in found] == list(range(32))


def test_many_cores_do_not_decode_as_many_images_at_once(monkeypatch):
    monkeypatch.setattr(pipeline, "count_cores", lambda: 4 * DECODED)
    barrier, lock, inside, most = Barrier(DECODED), Lock(), [0], [0]

    def read(path):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        barrier.wait(WAIT)
        with lock:
            inside[0] -= 1
        return np.zeros((28, 28, 3), np.uint8), ""

    assert len(stream(range(6 * DECODED), read, LITERT, 1)) == 6 * DECODED
    assert most[0] <= DECODED


@pytest.mark.parametrize("engine, batch_size", ENGINES)
def test_what_cannot_be_read_says_why_in_its_place(engine, batch_size):
    def read(path):
        if path % 3 == 1:
            raise [ValueError, OSError, MemoryError][path % 2](f"no {path}")
        return np.full((28, 28, 3), path, np.uint8), str(path)

    found = stream(range(1, 12), read, engine, batch_size)
    assert [each.error for each in found] == [f"no {i}" if i % 3 == 1 else "" for i in range(1, 12)]
    assert [each.size for each in found] == [None if i % 3 == 1 else (28, 28) for i in range(1, 12)]
