"""Indexing on Ray: its workers embed images and write them to the gallery, this process commits."""

import math
import os
import secrets
import socket
import sys
import tempfile
import warnings
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from itertools import islice

from simvis.batch.pipeline import BATCH_SIZE
from simvis.gallery.indexing import embed_rows, every_few_seconds, note_engine, quickest
from simvis.gallery.table import ImageTable

BLOCKS = 16  # that a worker gets, at the least, so that all end at about the same time
SMALLEST, LARGEST = 16, 4096  # images of a block, which is what a worker's death costs
DEATHS = 3  # of workers over one block, after which it is the block's fault
OBJECTS = 2**27  # bytes of Ray's own store: only paths and names of files go through it


def index_on_ray(table, images, listed, left, loader, workers, advance, batch_size=BATCH_SIZE):
    """Embed images on Ray and put them into a table, in the place of their rows there.

    The cluster is the one that ``RAY_ADDRESS`` names, or that this process is connected to already.
    Without one it is this machine's cores, for this process alone and no longer than it lives.
    The workers, one for each core of the cluster unless their number is given, embed the paths in
    ``left``; they must find the table and the ImageFolder at the same places, and load the network
    with ``loader(graph=True)``, which can be pickled.  ``advance`` is told how many more are done.

    Raises a ValueError or an OSError if Ray is missing, does not answer or has fewer cores than
    workers, or if a worker finds something else than this process does, or dies again and again.
    """
    if not left:
        return
    uri = table.uri if "://" in table.uri else os.path.abspath(table.uri)
    weights, old = table.identity["network"]["weights"], table.files().keys() & set(left)
    with _cluster() as ray:
        workers, cores = _shares(ray, workers, math.ceil(len(left) / SMALLEST))
        size = min(max(SMALLEST, len(left) // (BLOCKS * workers)), LARGEST)
        given = uri, images, loader, weights, batch_size, cores, len(left)
        given = ray.cloudpickle.dumps(given)
        embed = ray.remote(num_cpus=cores, max_retries=DEATHS - 1)(embed_block)
        start, begins = partial(embed.remote, given), range(0, len(left), size)
        blocks = ({path: listed[path] for path in left[i : i + size]} for i in begins)
        for done in every_few_seconds(_run(ray, start, blocks, workers, advance)):
            for engine in {engine for _, (engine, _) in done}:
                note_engine(table, engine)
            # Between the two commits rows are missing, which the next run would embed; never is an
            # image there twice.
            table.drop(old.intersection(path for block, _ in done for path in block))
            table.add(written for _, (_, written) in done)


def embed_block(given, listed):
    """Write the rows of images, in a worker; return its engine and what `ImageTable.add` takes."""
    table, images, network, batch_size = _open(given)
    rows = list(embed_rows(images, listed, list(listed), network, batch_size))
    return network.engine, table.write(rows)


@lru_cache(maxsize=1)
def _open(given):
    """Return what a worker works with, which it opens once."""
    from ray import cloudpickle

    uri, images, loader, weights, batch_size, cores, count = cloudpickle.loads(given)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(cores)
    images.check()
    network = loader(graph=True)
    if network.fingerprint() != weights:
        raise ValueError("network: it has other weights on a worker's machine")
    return ImageTable(uri), images, quickest(network, count, batch_size), batch_size


def _run(ray, start, blocks, workers, advance):
    """Yield each block with what a worker wrote of it, while one for each worker is under way."""
    running = {start(block): block for block in islice(blocks, workers)}
    while running:
        (done,), _ = ray.wait(list(running))
        block = running.pop(done)
        try:
            written = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            paths, reason = list(block), " ".join(str(error).split())[:200]
            images = f"the images {paths[0]} to {paths[-1]}"
            raise ValueError(f"engine: Ray's workers died at {images}: {reason}") from None
        running.update((start(block), block) for block in islice(blocks, 1))
        advance(len(block))
        yield block, written


def _shares(ray, workers, useful):
    """Return how many workers there are, and how many cores each of them has."""
    sizes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    workers = workers or min(sum(sizes), useful)
    for cores in range(max(sizes), 0, -1):
        if sum(size // cores for size in sizes) >= workers:
            return workers, cores
    raise ValueError(f"workers: expected at most {sum(sizes)}, Ray's cores, got {workers}")


@contextmanager
def _cluster():
    """Yield Ray, connected to the cluster there is, or to one of this machine's until the end."""
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    # what workers fail at is raised here, and need not be printed, too
    settings |= {"RAY_IGNORE_UNHANDLED_ERRORS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}
    if not os.environ.get("RAY_ADDRESS"):
        # or else it listens on all addresses of the machine, for the other machines of a cluster
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # the token that keeps the machine's other users out, which it would write into the home
        settings["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        extra = "similarity-visualization[ray]"
        raise ValueError(f'engine: Ray is missing: pip install "{extra}"') from None
    if ray.is_initialized():
        yield ray
        return
    # the path of a socket may have 107 bytes, of which Ray uses 64 below its folder
    parent = "/tmp" if len(tempfile.gettempdir()) > 30 else None
    folder = tempfile.TemporaryDirectory(prefix="ray", dir=parent, ignore_cleanup_errors=True)
    with folder, warnings.catch_warnings():
        # Ray forks to start programs, which touch nothing of Lance's.
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        try:
            _start(ray, os.environ.get("RAY_ADDRESS"), folder.name)
            yield ray
        finally:
            _stop(ray)


def _stop(ray):
    """Leave the cluster, and end what it started here, of which some would stay for a minute."""
    import psutil  # which Ray brings

    raylets = [each for each in psutil.Process().children() if each.name() == "raylet"]
    started = [each for raylet in raylets for each in raylet.children(recursive=True)]
    ray.shutdown()
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _start(ray, address, folder):
    """Connect to the cluster at an address, or to a new one of this machine, in a folder."""
    options, (host, _, port) = {}, (address or "").rpartition(":")
    if not address:
        # The workers find the modules that this process finds.
        path = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
        options |= {"_node_ip_address": "127.0.0.1", "_temp_dir": folder, "runtime_env": path}
        options |= {"include_dashboard": False, "object_store_memory": OBJECTS}
    try:
        if port.isdigit() and "//" not in host:
            # where nobody answers, Ray would try again for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address or "local", log_to_driver=False, logging_level="error", **options)
    except (OSError, RuntimeError, ValueError) as error:
        what = f"RAY_ADDRESS: no cluster at {address}" if address else "engine: Ray does not start"
        raise ValueError(f"{what}: {' '.join(str(error).split())[:200]}") from None
    if not address and ray.util.get_node_ip_address() != "127.0.0.1":
        raise ValueError(
            "engine: Ray was imported too early, and listens to other machines: set "
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before that"
        )
