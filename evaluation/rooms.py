"""Sets of random rooms, seen from several sides, and a command that renders them.

    python -m evaluation.rooms FOLDER --teach all --rooms 120 --views 5 --seed 1 --chains 60

``--teach all``: everything that a room's identity is made of is the same in all its views.
``--teach parts``: headboard and pictures are the same in all views of a room; each view has one of
as many carpets, so that no two views share both; all else is drawn anew.  One set of images can so
teach one network the headboards and pictures, another the carpets.  All follows from the seed.

``--swaps BASE`` renders views of a set in another folder again, each with one object changed.
"""

import argparse
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluation.measures import area_by_object
from evaluation.random_parts import IDENTITY, draw_nuisance, draw_part
from evaluation.viewpoints import draw_camera
from evaluation.views import OBJECTS, View, load_views, save_views

CHAINED = ("carpet", "curtains", "headboard")  # what a chain of rooms shares, by turns
CHAIN = 6  # rooms
NUISANCE = ("television", "suitcase", "towel", "light", "wall")  # what swaps change besides
SMALLEST = 0.003  # of a view's pixels, for an object to be worth a swap


def chain_of(room, rooms, chained):
    """Return the name of the chain that a room is in and the object that it shares, or "", "".

    Rooms come in blocks of six; the blocks that are chains are spread evenly.

    >>> chain_of(0, 24, 12), chain_of(6, 24, 12), chain_of(17, 24, 12)
    (('chain_00_carpet', 'carpet'), ('', ''), ('chain_01_curtains', 'curtains'))
    """
    block, blocks = room // CHAIN, -(-rooms // CHAIN)
    chain, following = (-(-number * (chained // CHAIN) // blocks) for number in (block, block + 1))
    if chain == following:
        return "", ""
    shared = CHAINED[chain % len(CHAINED)]
    return f"chain_{chain:02d}_{shared}", shared


def draw_view(teach, rooms, seed, room, number, chained=0):
    """Return a view's labels, its chain, and what is in it: a dict of parts by object."""
    name = f"{seed}_{room:03d}"
    chain, shared = chain_of(room, rooms, chained)
    if teach == "all":
        parts = {kind: draw_part(kind, seed, room) for kind in IDENTITY}
        labels = dict.fromkeys(("room", "headboard", "carpet"), f"room_{name}")
        if shared:  # with the first room of its chain
            parts[shared] = draw_part(shared, seed, room - room % CHAIN)
        if shared == "carpet":
            labels["carpet"] = f"{chain}_{seed}"
    else:
        parts = {kind: draw_part(kind, seed, room, number) for kind in IDENTITY}
        # the views of one headboard have different carpets, and so the other way round
        rng = np.random.default_rng([seed, 2000])
        order, steps = rng.permutation(rooms), rng.permutation(rooms)
        carpet = int(order[(room + steps[number]) % rooms])
        for kind, index in (("headboard", room), ("picture", room), ("carpet", carpet)):
            parts[kind] = draw_part(kind, seed, index)
        labels = {
            "room": f"room_{name}_{number}",
            "headboard": f"headboard_{name}",
            "carpet": f"carpet_{seed}_{carpet:03d}",
        }
    parts |= draw_nuisance(seed, room, number)
    parts["camera"] = draw_camera(parts, seed, room, number)
    return labels, chain, parts


def draw_set(folder, teach, rooms, views, seed, chained=0):
    """Return (View, parts) for all views of a set, room by room.

    teach is "all" or "parts"; so many of the rooms as chained says are in chains of six that share
    one object.  Raises a ValueError if there are no rooms or views, more views than rooms although
    each needs a carpet of its own, or the rooms in chains are not whole chains of the rooms.
    """
    if min(rooms, views) < 1 or seed < 0:
        raise ValueError(
            f"rooms and views must be positive, seed not negative; got {rooms}, {views}, {seed}"
        )
    if teach == "parts" and views > rooms:
        raise ValueError(
            f"views must be at most the rooms, {rooms}, to have a carpet each; got {views}"
        )
    if chained % CHAIN or not 0 <= chained <= rooms or (chained and teach == "parts"):
        raise ValueError(f"chains must hold a multiple of {CHAIN} of {rooms} rooms, got {chained}")
    drawn = []
    for room in range(rooms):
        for number in range(views):
            labels, chain, parts = draw_view(teach, rooms, seed, room, number, chained)
            name = f"room_{seed}_{room:03d}_{number}"
            of = name if teach == "parts" else name.rpartition("_")[0]
            drawn.append((View(Path(folder), name, of, number, labels, chain), parts))
    return drawn


# --- swaps ---------------------------------------------------------------------------------------


def draw_swaps(folder, drawn, shares, medians, seed, count, deletions=0):
    """Return (View, parts) of a set's views with one object changed, in turns over the objects.

    The new views go to folder, which is a Path; drawn is the set, as from `draw_set`, shares and
    medians are from `measure_views`.  A new view is exposed as its base is, unless the light is
    what changes.  Each object is swapped for another room's in so many views as count says, and
    taken away in so many as deletions says.
    """
    missing = [view.name for view, _parts in drawn if view.name not in shares]
    if missing or min(count, deletions) < 0:
        raise ValueError(
            f"swaps need a set that is rendered whole and counts from 0; got {count}, {deletions}, "
            f"and {len(missing)} views are missing"
        )
    changes = []
    for change, most, kinds in (
        ("swap", count, (*IDENTITY, *NUISANCE)),
        ("delete", deletions, (*IDENTITY, "television")),
    ):
        for kind in kinds:
            rng = np.random.default_rng([seed, 3000, (*OBJECTS, "light").index(kind)])
            for turn, index in enumerate(_spread(rng, drawn, shares, kind)[:most]):
                view, parts = drawn[index]
                part = _other_part(rng, drawn, view, parts, kind) if change == "swap" else None
                changed = {**parts, kind: part}
                if kind != "light":
                    changed["median"] = medians[view.name]
                what = {"swap_of": view.name, "swapped": kind, "change": change}
                what |= {"folder": folder, "name": f"{view.name}_{change}_{kind}"}
                changes.append((turn, replace(view, **what), changed))
    changes.sort(key=lambda entry: entry[0])  # so that a set cut short has some of each
    return [(view, parts) for _turn, view, parts in changes]


def _spread(rng, drawn, shares, kind):
    """Return where an object can be seen, in an order that takes each room once, then twice."""
    times, seen = Counter(), {}
    for index in rng.permutation(len(drawn)):
        view = drawn[index][0]
        if kind == "light" or shares[view.name][OBJECTS.index(kind)] >= SMALLEST:
            times[view.room] += 1
            seen[index] = times[view.room]
    return sorted(seen, key=seen.get)


def _other_part(rng, drawn, view, parts, kind):
    """Return the part of this kind of another room, one that looks otherwise."""
    for index in rng.permutation(len(drawn)):
        other, part = drawn[index][0], drawn[index][1][kind]
        if other.room != view.room and part is not None and part != parts[kind]:
            if kind == "light":
                return {**part, "night": not parts[kind]["night"], "lamps": True}
            in_place = kind in ("suitcase", "towel")
            return {**part, "at": parts[kind]["at"]} if in_place else part
    raise ValueError(f"{kind} must differ between rooms to be swapped")


# --- the command ---------------------------------------------------------------------------------


def render_set(folder, drawn, processes=2, width=360, samples=2):
    """Render the views that are not in the folder yet, and list in views.json those that are.

    Stopped at any moment, it goes on where it was when it is called again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OIDN_NUM_THREADS", "1")  # each process has one core
    os.environ.setdefault("OIDN_SET_AFFINITY", "0")
    missing = [entry for entry in drawn if not _there(entry[0])]
    print(f"{folder}: {len(drawn)} views, {len(missing)} to render", flush=True)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        jobs = pool.map(_render, missing, [width] * len(missing), [samples] * len(missing))
        for done, (view, _parts) in enumerate(missing, 1):
            next(jobs)
            if done % 20 == 0 or done == len(missing):
                save_views(folder, [view for view, _parts in drawn if _there(view)])
                print(f"{done} of {len(missing)}: {view.name}", flush=True)


def _there(view):
    return view.image_path.is_file() and view.objects_path.is_file()


def _render(entry, width, samples):
    from evaluation.render import save_view  # only the workers need the renderer

    save_view(*entry, width, samples)


def main(argv=None):
    """Run the program."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("folder", type=Path)
    add("--teach", choices=("all", "parts"), default="all")
    add("--rooms", type=int, required=True)
    add("--views", type=int, required=True, help="of each room")
    add("--seed", type=int, required=True)
    add("--chains", type=int, default=0, metavar="N", help="rooms in chains of six")
    add("--swaps", type=Path, metavar="BASE", help="render the swaps of the set in this folder")
    add("--count", type=int, default=64, help="swaps of each object")
    add("--deletions", type=int, default=0, help="deletions of each object")
    add("--processes", type=int, default=2)
    add("--samples", type=int, default=2, help="per pixel")
    given = parser.parse_args(argv)
    try:
        base, options = given.swaps or given.folder, (given.teach, given.rooms, given.views)
        drawn = draw_set(base, *options, given.seed, given.chains)
        if given.swaps:
            measured, numbers = measure_views(base), (given.seed, given.count, given.deletions)
            drawn = draw_swaps(given.folder, drawn, *measured, *numbers)
        render_set(given.folder, drawn, given.processes, samples=given.samples)
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"rooms: {error}\n")


def measure_views(folder):
    """Return by view's name the share of the pixels of each of the OBJECTS, and the exposure."""
    views = load_views(folder)
    shares = {view.name: area_by_object(view.objects(), len(OBJECTS)) for view in views}
    return shares, {view.name: view.exposure() for view in views}


if __name__ == "__main__":
    main()
