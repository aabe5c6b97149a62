"""Networks and all that is exported of them, made once in a process of pytest: read them, change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property

import pytest

from export.graphs.network_graph import network_graph
from export.graphs.torchscript import torchscript
from export.parity import (
    Difference,
    Streams,
    check_same_bits,
    exported_network,
    gather_evidence,
    graphs_by_runtime,
    run_torch,
    script_difference,
)
from hetsyn_model import Compiled, Network
from hetsyn_model.spec import InputKind, Rule
from hetsyn_model.state import Form
from service.runtime.onnx import Graph
from service.runtime.operators import library
from tests.support.networks.delays import delayed_network
from tests.support.networks.families import family_network
from tests.support.networks.networks import small_network
from tests.support.tools import NO_OPERATOR

FORMS: tuple[Form, ...] = ("exact", "bank")
RUNTIMES = ("operator", "plain ONNX")


class Exported:
    """One form of a network: compiled, as a graph on each runtime that is here, and as TorchScript."""

    def __init__(self, network: Network, form: Form) -> None:
        self.compiled: Compiled = network.compile(form).detach()

    @cached_property
    def content(self) -> bytes:
        return network_graph(self.compiled)

    @cached_property
    def graphs(self) -> dict[str, Graph]:
        return graphs_by_runtime(self.content)

    @cached_property
    def script(self) -> bytes:
        return torchscript(self.compiled)

    def on(self, runtime: str) -> Graph:
        """The graph on a runtime. Skips the test where the operator is not built."""
        if runtime == "operator" and library() is None:
            pytest.skip(NO_OPERATOR)
        return self.graphs[runtime]

    @property
    def graph(self) -> Graph:
        """The graph as a server runs it here."""
        return next(iter(self.graphs.values()))


def verify_form(
    compiled: Compiled, graphs: Mapping[str, Graph], script: bytes | None, streams: Streams
) -> list[Difference]:
    """Compare every implementation of a network with torch, as an export does, and list the differences.

    Args:
        compiled: the network.
        graphs: its graph by what runs it.
        script: its TorchScript; None without.
        streams: what to run.

    Raises:
        ParityError: one differs.
    """
    made, truth = exported_network(compiled, b""), run_torch(compiled, streams)
    evidence = gather_evidence(made, graphs, streams, truth)
    check_same_bits(evidence)
    found = list(evidence.differences)
    return found if script is None else [*found, script_difference(script, made, streams, truth, 0.0)]


_network, _delayed, _family = cache(small_network), cache(delayed_network), cache(family_network)


@cache
def exported(
    kind: str,
    rule: Rule,
    form: Form,
    *,
    channels: int = 30,
    recurrent: bool = True,
    bias: bool = False,
    input_kind: InputKind = "spikes",
) -> Exported:
    """A form of ``small_network``."""
    made = _network(kind, rule, channels=channels, recurrent=recurrent, bias=bias, input_kind=input_kind)
    return Exported(made, form)


@cache
def exported_delayed(
    path: str,
    form: Form,
    kind: str = "hetsyn",
    rule: Rule = "sum_softmax",
    *,
    bias: bool = False,
) -> Exported:
    """A form of ``delayed_network``."""
    return Exported(_delayed(path, kind, rule, bias=bias), form)


@cache
def exported_family(name: str, form: Form, *, longest_everywhere: bool = False) -> tuple[Exported, int]:
    """A form of ``family_network``, and the steps of its longest delay."""
    made, longest = _family(name, longest_everywhere=longest_everywhere)
    return Exported(made, form), longest
