"""Adds the decision rules to ONNX graphs of networks and cells, by hand; ``hetsyn_model/readout.py`` defines them."""

from __future__ import annotations

from collections.abc import Mapping

from export.graphs.build import GraphBuilder
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP


def class_probabilities(
    graph: GraphBuilder, decision: DecisionSpec, outputs: int, state: Mapping[str, str], step: str
) -> str:
    """Add the class probabilities after a chunk, [batch, outputs].

    Args:
        graph: gets the nodes.
        state: the decision's tensors after the chunk, by name.
        step: int64 [batch], steps so far.
    """
    score = state[DECISION_SCORE]
    if decision.rule == "spike_count":  # a float32 of a count above 2^24 would miss a spike
        total = graph.node(
            "Add", *(graph.cast(state[name], "float64") for name in (DECISION_SCORE, DECISION_SCORE_LOW))
        )
        largest = graph.node("ReduceMax", total, graph.constant([-1], "int64"))
        score = graph.cast(graph.node("Sub", total, largest), "float32")
    if not decision.averages_softmax:
        return str(graph.node("Softmax", score, axis=-1))
    counted = graph.node("Sub", step, graph.constant(decision.skip_steps, "int64"))
    counted = graph.unsqueeze(graph.cast(graph.node("Max", counted, graph.constant(0, "int64")), "float32"), 1)
    mean = score
    if decision.rule == "sum_softmax":
        mean = graph.node("Div", score, graph.node("Max", counted, graph.constant(1.0, "float32")))
    return str(
        graph.node(
            "Where",
            graph.node("Greater", counted, graph.constant(0.0, "float32")),
            mean,
            graph.constant(1.0 / outputs, "float32"),
        )
    )


def _share(body: GraphBuilder, decision: DecisionSpec, step: str) -> str:
    """Add the share of a step in the mean of ``late_softmax``, [batch, 1]. ``step`` counts the steps before it."""
    number = body.node("Sub", step, body.constant(decision.skip_steps - 1, "int64"))
    number = body.unsqueeze(body.cast(number, "float32"), 1)
    following = body.node("Add", number, body.constant(1.0, "float32"))
    share = body.node("Mul", body.constant(4.0, "float32"), number)
    return str(body.node("Div", share, body.node("Mul", following, following)))


def decide(
    body: GraphBuilder,
    decision: DecisionSpec,
    before: Mapping[str, str],
    after: dict[str, str],
    readout: str,
) -> None:
    """Add one step of the score: puts the decision's tensors into ``after``.

    Args:
        body: gets the nodes.
        before: tensors before the step, by name.
        readout: [batch, outputs], the step's output; for ``spike_count`` its spikes.
    """
    score, step = before[DECISION_SCORE], before[DECISION_STEP]
    counts = body.unsqueeze(body.node("GreaterOrEqual", step, body.constant(decision.skip_steps, "int64")), 1)
    if decision.adds_up:
        gain = body.node("Softmax", readout, axis=-1) if decision.averages_softmax else readout
        if decision.rule == "late_softmax":
            gain = body.node("Mul", body.node("Sub", gain, score), _share(body, decision, step))
        gain = body.node("Where", counts, gain, body.constant(0.0, "float32"))
        value = body.node("Add", gain, before[DECISION_SCORE_LOW])
        after[DECISION_SCORE] = body.node("Add", score, value)
        after[DECISION_SCORE_LOW] = body.node("Sub", value, body.node("Sub", after[DECISION_SCORE], score))
    else:
        after[DECISION_SCORE] = body.node("Where", counts, readout, score)
    after[DECISION_STEP] = body.node("Add", step, body.constant(1, "int64"))
