"""Networks and all that is exported of them, made once in a process of pytest: read them, change nothing."""

from __future__ import annotations

from functools import cache, cached_property

import pytest

from export.network_graph import network_graph
from export.parity import graphs_by_runtime
from export.torchscript import torchscript
from hetsyn_model import Compiled, Network
from hetsyn_model.spec import InputKind, Rule
from hetsyn_model.state import Form
from service.runtime.onnx import Graph
from service.runtime.operators import library
from tests.support.delays import delayed_network
from tests.support.families import family_network
from tests.support.networks import small_network
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
    channels: int = 30,
    bias: bool = False,
    longest_everywhere: bool = False,
) -> Exported:
    """A form of ``delayed_network``."""
    made = _delayed(path, kind, rule, channels=channels, bias=bias, longest_everywhere=longest_everywhere)
    return Exported(made, form)


@cache
def exported_family(name: str, form: Form, *, longest_everywhere: bool = False) -> tuple[Exported, int]:
    """A form of ``family_network``, and the steps of its longest delay."""
    made, longest = _family(name, longest_everywhere=longest_everywhere)
    return Exported(made, form), longest
