"""Finds the order in which a step runs through a graph, and the edges that take a step.

A loop needs a delay, and NIR stores none. As in every library, a spike reaches its own layer, and those before it, in
the next step. So an edge from a spiking node is delayed if it leads back, to spiking nodes that are not after it. In a
loop without spiking nodes the same holds for integrators. A loop with a Delay of a step or more needs no other delay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from export.nir import Unsupported
from export.nir.graph import INPUT, INTEGRATORS, OUTPUT, SPIKING, Graph

Edge = tuple[str, str]


@dataclass(frozen=True)
class Order:
    """The order of a step.

    Attributes:
        names: the nodes between Input and Output, each after its sources.
        delayed: edges that carry the value of the step before; 0 at first.
    """

    names: tuple[str, ...]
    delayed: frozenset[Edge]

    @property
    def remembered(self) -> tuple[str, ...]:
        """Return the nodes with an output that is needed a step later."""
        sources = {source for source, _ in self.delayed}
        return tuple(name for name in self.names if name in sources)


def order_of(graph: Graph, buffered: Collection[str]) -> Order:
    """Find the order of a step.

    Args:
        buffered: Delay nodes of a step or more: their output does not depend on their input of the same step.

    Raises:
        Unsupported: a loop has no delay, or a node no input.
    """
    edges = _used(graph)
    immediate = [edge for edge in edges if edge[0] not in buffered]
    delayed: set[Edge] = set()
    for kinds in (SPIKING, INTEGRATORS):
        left = [edge for edge in immediate if edge not in delayed]
        delayed |= _leading_back(graph, left, kinds)
    needs = {name: set[str]() for edge in edges for name in edge}
    for source, target in immediate:
        if (source, target) not in delayed:
            needs[target].add(source)
    try:
        names = tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        loop = " -> ".join(repr(name) for name in dict.fromkeys(reversed(error.args[1])))
        raise Unsupported(f"the loop {loop} has no delay: put a neuron or a Delay of a step or more into it") from error
    return Order(names, frozenset(delayed))


def _used(graph: Graph) -> list[Edge]:
    """Find the edges between nodes that lead to the Output.

    Raises:
        Unsupported: one of these nodes has no input, or no way leads from Input to Output.
    """
    output, source = graph.of_kind(OUTPUT)[0].name, graph.of_kind(INPUT)[0].name
    kept = _reachable([output], {name: graph.sources(name) for name in graph.nodes})
    if source not in kept:
        raise Unsupported(f"no edges lead from {source!r} to {output!r}: connect them")
    for name in kept:
        if name != source and not graph.sources(name):
            raise Unsupported(f"node {name!r} gets no input: add an edge to it, or take it out")
    return [edge for edge in graph.edges if edge[0] in kept and edge[1] in kept]


def _reachable(starts: Iterable[str], following: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += following[name]
    return found


def _leading_back(graph: Graph, edges: Sequence[Edge], kinds: Collection[str]) -> set[Edge]:
    """Find the edges that lead back to a node of these kinds in the same loop."""
    names = {name for edge in edges for name in edge}
    following: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        following[source].append(target)
    rank = _ranks(graph.of_kind(INPUT)[0].name, following)
    reached = {name: _reachable(following[name], following) for name in names}  # by at least one edge
    back = set()
    for source, target in edges:
        if graph.nodes[source].kind not in kinds or source not in _reachable([target], following):
            continue
        nearest = _nearest(target, following, lambda name: graph.nodes[name].kind in kinds)
        in_loop = [name for name in nearest if source in reached[name] or name == source]
        is_back = [rank[name] <= rank[source] for name in in_loop]
        if any(is_back) and not all(is_back):
            raise Unsupported(
                f"node {target!r} leads both forward and back from {source!r}, so its delay is not clear: give each "
                "way nodes of its own"
            )
        if any(is_back):
            back.add((source, target))
    return back


def _ranks(start: str, following: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return each node's position in reverse postorder of a walk from ``start``, in the order of the edges."""
    seen: set[str] = set()
    done: list[str] = []
    for root in [start, *following]:
        if root in seen or root not in following:
            continue
        seen.add(root)
        walk = [(root, iter(following[root]))]
        while walk:
            name, targets = walk[-1]
            target = next((target for target in targets if target not in seen), None)
            if target is None:
                done.append(name)
                walk.pop()
            else:
                seen.add(target)
                walk.append((target, iter(following[target])))
    return {name: len(done) - position for position, name in enumerate(done)}


def _nearest(start: str, following: Mapping[str, Sequence[str]], is_wanted: Callable[[str], bool]) -> set[str]:
    """Find the first wanted node on every way from a node, which may be the node itself."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if is_wanted(name):
            found.add(name)
        else:
            waiting += following[name]
    return found
