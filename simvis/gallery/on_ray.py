"""Indexing on Ray: its workers embed images and write them to the gallery, this process commits."""

import math
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from functools import cached_property, partial
from ipaddress import ip_address

from simvis.batch.pipeline import BATCH_SIZE
from simvis.gallery.indexing import embed_rows
from simvis.gallery.table import ImageTable

SECONDS = 4  # between commits
BLOCKS = 16  # that a worker gets, at the least, so that all end at about the same time
SMALLEST, LARGEST = 16, 4096  # images of a block, which is what a worker's death costs
DEATHS = 3  # of workers over one block, after which it is the block's fault
OBJECTS = 2**27  # bytes of Ray's own store: only paths and names of files go through it

# What the guard does once its standard input ends, with the process that writes there.
GUARD = """
import contextlib, os, shutil, signal, sys, time
for process in sys.stdin.read().split():
    with contextlib.suppress(OSError):
        os.kill(int(process), signal.SIGKILL)
time.sleep(5)  # until the workers are gone
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def index_on_ray(table, images, listed, left, loader, workers, advance, batch_size=BATCH_SIZE):
    """Embed images on Ray and put them into a table, in the place of their rows there.

    The cluster is the one that ``RAY_ADDRESS`` names, or that this process is connected to already.
    Without one it is this machine's cores, for this process alone and no longer than it lives.

    Parameters
    ----------
    table : ImageTable
    images : ImageFolder
        The workers must find it and the table at the same places.
    listed : dict of path to File
    left : list of str, the paths to embed
    loader : function that loads the network, given graph=True, and that can be pickled
    workers : None or int, one for each core of the cluster, if there is work for so many
    advance : function of how many more are done
    batch_size : int, how many images go through the network at once

    Raises
    ------
    ValueError, OSError
        If Ray is missing, does not answer or has fewer cores than workers, or if a worker finds
        something else than this process does, or dies again and again.
    """
    if not left:
        return
    uri = table.uri if "://" in table.uri else os.path.abspath(table.uri)
    old, waiting, last = table.files().keys() & set(left), [], time.monotonic()

    def commit():
        # Between the two commits rows are missing, which the next run would embed; never is an
        # image there twice.
        table.drop(old.intersection(path for block, _ in waiting for path, _ in block))
        table.add([written for _, written in waiting])
        waiting.clear()

    with _cluster() as ray:
        workers, cores = _shares(ray, workers, math.ceil(len(left) / SMALLEST))
        # Ray starts a worker that died again, and gives it what it was doing.
        start = ray.remote(num_cpus=cores, max_restarts=-1, max_task_retries=DEATHS - 1)(Worker)
        pool = [start.remote(uri, images, loader, batch_size, cores) for _ in range(workers)]
        size = min(max(SMALLEST, len(left) // (BLOCKS * workers)), LARGEST)
        blocks = (
            [(path, listed[path]) for path in left[begin : begin + size]]
            for begin in range(0, len(left), size)
        )
        try:
            for block, written in _run(ray, pool, blocks, len(left)):
                waiting.append((block, written))
                advance(len(block))
                if time.monotonic() - last > SECONDS:
                    commit()
                    last = time.monotonic()
            commit()
        finally:
            for worker in pool:
                ray.kill(worker)


class Worker:
    """A process of its own that embeds blocks of images.

    What it works with is opened on use: of what fails earlier, Ray makes a long tale.
    """

    def __init__(self, uri, images, loader, batch_size, cores):
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ[name] = str(cores)
        self.uri, self.given, self.loader, self.batch_size = uri, images, loader, batch_size

    @cached_property
    def table(self):
        return ImageTable(self.uri)

    @cached_property
    def images(self):
        self.given.check()
        return self.given

    @cached_property
    def network(self):
        network = self.loader(graph=True)
        if network.fingerprint() != self.table.identity["network"]["weights"]:
            raise ValueError("network: it has other weights on a worker's machine")
        return network

    def embed(self, block):
        """Write the rows of a block, a list of (path, File), and return what `add` takes of them.

        An empty block makes it load the network.
        """
        paths, listed = [path for path, _ in block], dict(block)
        rows = list(embed_rows(self.images, listed, paths, self.network, self.batch_size))
        return self.table.write(rows) if rows else None


def _run(ray, pool, blocks, images):
    """Yield each block, once, with what a worker wrote of it, until so many images are done."""
    # At first no work, so that none waits for a worker for whom the cluster has no place yet.
    running = {worker.embed.remote([]): (worker, []) for worker in pool}
    while images:
        (done,), _ = ray.wait(list(running))
        worker, block = running.pop(done)
        written = _result(ray, done, block)
        if following := next(blocks, None):
            running[worker.embed.remote(following)] = worker, following
        if block:
            images -= len(block)
            yield block, written


def _result(ray, done, block):
    """Return what a worker returned, or raise what it raised."""
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        images = f"at the images {block[0][0]} to {block[-1][0]}" if block else "on starting"
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"engine: Ray's workers died {images}: {reason}") from None


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
    address = os.environ.get("RAY_ADDRESS")
    ray = _import_ray(address)
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address:
            _connect(ray, address, **quiet)
            yield ray
        else:
            with _local_cluster(ray, **quiet):
                yield ray
    finally:
        ray.shutdown()


def _import_ray(address):
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # what workers fail at is raised here, and need not be printed too
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    }
    if not address:
        # or else it listens on all addresses of the machine, for the other machines of a cluster
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # the token that keeps the machine's other users out, which it would write into the home
        settings["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ValueError(
            'engine: Ray is missing: pip install "similarity-visualization[ray]"'
        ) from None
    return ray


def _connect(ray, address, **quiet):
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "//" not in host:
            # where nobody answers, Ray would try again for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"RAY_ADDRESS: no cluster at {address}: {reason}") from None


@contextmanager
def _local_cluster(ray, **quiet):
    """Start a cluster of this machine's cores, and end it, whatever happens."""
    # The path of a socket may have 107 bytes, of which Ray uses 64 below its folder.
    parent = "/tmp" if len(tempfile.gettempdir()) > 30 else None
    temporary = partial(tempfile.TemporaryDirectory, ignore_cleanup_errors=True)
    with temporary(prefix="ray", dir=parent) as folder, _guard(folder) as guard:
        try:
            with warnings.catch_warnings():
                # Ray forks to start programs, which touch nothing of Lance's.
                warnings.filterwarnings("ignore", message="lance is not fork-safe")
                ray.init(
                    "local",
                    _node_ip_address="127.0.0.1",
                    include_dashboard=False,
                    object_store_memory=OBJECTS,
                    _temp_dir=folder,
                    # The workers find the modules that this process finds.
                    runtime_env={
                        "env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
                    },
                    **quiet,
                )
            guard()
            if not ip_address(ray.util.get_node_ip_address()).is_loopback:
                raise ValueError(
                    "engine: Ray listens to other machines, for it was imported too early: set "
                    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before that"
                )
            yield
        finally:
            ray.shutdown()


@contextmanager
def _guard(folder):
    """Have a process that outlives a kill of this one, and clears up after it.

    Yields a function that tells it of the processes there are.  Most of Ray's end with this one,
    but some try to tell of it for a minute.
    """
    command = [sys.executable, "-c", GUARD, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:

        def tell():
            import psutil  # Ray brings it

            processes = psutil.Process().children(recursive=True)
            words = " ".join(str(each.pid) for each in processes if each.pid != guard.pid)
            guard.stdin.write(words.encode())
            guard.stdin.flush()

        try:
            yield tell
        finally:
            guard.kill()
