"""A network as a flat list of steps between tensors, in whatever framework: what leads where."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, frozen=True)
class Tensor:
    """A tensor of the flat graph: its shape, with None for what is open, and what made it."""

    shape: tuple
    dtype: str
    operation: object

    @property
    def name(self):
        return named(self.operation)

    @property
    def positions(self):
        """The sides of a feature map or the length of a sequence; () for a vector."""
        return self.shape[1:-1]

    @property
    def sides(self):
        """Its positions, with some number for those that are open."""
        return [side or some for side, some in zip(self.positions, (5, 6), strict=False)]


@dataclass(eq=False, frozen=True)
class Step:
    """One call of an operation: `run` takes the values of sources, and returns those of outputs."""

    operation: object
    run: Callable[[list], list] | None
    sources: tuple
    outputs: tuple


def named(operation):
    return f"{operation.name} ({type(operation).__name__})"


def leading_to(steps, targets, sources=()):
    """Return those of the steps that targets are computed by, from sources or else the inputs."""
    wanted, chosen = set(targets) - set(sources), []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            chosen.append(step)
            wanted.update(set(step.sources) - set(sources))
    return chosen[::-1]


def following(steps, tensor):
    """Return those of the steps that depend on a tensor."""
    reached, chosen = {tensor}, []
    for step in steps:
        if reached.intersection(step.sources):
            chosen.append(step)
            reached.update(step.outputs)
    return chosen


def run(steps, values):
    """Run steps on a dict of tensors to values; return it with what they compute added."""
    values = dict(values)
    for step in steps:
        found = step.run([values[each] for each in step.sources])
        values.update(zip(step.outputs, found, strict=True))
    return values


def bottlenecks(steps, source, output):
    """Return the tensors that all ways from a source to the output lead through, with both.

    The steps are those that lead to the output, in an order in which they can run.
    """
    from_source = following(steps, source)
    last_use = {each: i for i, step in enumerate(from_source) for each in step.sources}
    last_use[output] = len(from_source)
    found, alive = [source], {source}
    for i, step in enumerate(from_source):
        alive.update(each for each in step.outputs if each in last_use)
        alive = {each for each in alive if last_use[each] > i}
        if len(alive) == 1:
            (only,) = alive
            if only is not found[-1]:
                found.append(only)
    return found
