"""The conventions that a NIR file leaves out: the step, the integration rule, and the reset.

NIR describes neurons in continuous time. Its writer used a step and a rule, and stores neither. One rule turns
``tau dv/dt = v_leak - v + R i`` into a step of dt:

    euler         v(t) = a v(t-1) + (1 - a) (R i(t) + v_leak),   a = 1 - dt/tau
    exponential   the same,                                      a = exp(-dt/tau)

and ``dv/dt = R i`` into ``v(t) = v(t-1) + dt R i(t)``. A neuron spikes if v(t) is above the threshold. Then

    zero               v(t) becomes v_reset
    subtract-at-once   the threshold is taken off v(t), and what is left decays (Norse, SpikingJelly, Sinabs)
    subtract-next      the threshold is taken off v(t+1), after the decay (snnTorch, Spyx and HetSyn)
    subtract           subtract-next, if the rule is Euler's and the neurons have the gain (1 - a) R = 1, as snnTorch,
                       Spyx and HetSyn write them; else subtract-at-once. The import says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from export.nir import NirError

Rule = Literal["euler", "exponential"]
Reset = Literal["zero", "subtract", "subtract-at-once", "subtract-next"]
Producer = Literal["snntorch", "norse", "spikingjelly", "sinabs"]
Spikes = Literal["single", "multiple"]
RULES, RESETS, PRODUCERS, SPIKES = get_args(Rule), get_args(Reset), get_args(Producer), get_args(Spikes)


@dataclass(frozen=True)
class Convention:
    """How a graph in continuous time becomes one in steps.

    Attributes:
        dt: duration of a step, in the unit of the file's time constants; None if unknown.
        rule: integration rule; None if unknown.
        reset: reset of a neuron that spiked; None if unknown.
        jumps: an input of 1 raises the potential of a LI, LIF, I or IF by R, whatever the time constant, so the file's
            R is not the resistance. Sinabs writes all of them so, Norse its IF.
        current_jumps: the same for w_in and the current of a CubaLI or CubaLIF. Norse writes them so.
        reached: a potential equal to the threshold spikes too.
        multiple: a neuron fires as many spikes in a step as its potential holds thresholds: Sinabs's default.
    """

    dt: float | None = None
    rule: Rule | None = None
    reset: Reset | None = None
    jumps: tuple[str, ...] = ()
    current_jumps: bool = False
    reached: bool = False
    multiple: bool = False

    def step_s(self, needed_by: str) -> float:
        """Return dt.

        Args:
            needed_by: the node that needs it, for the message.

        Raises:
            NirError: it is unknown.
        """
        if self.dt is None:
            raise NirError(f"node {needed_by!r} needs the duration of a step, which NIR does not hold: give --dt")
        return self.dt

    def integration(self, needed_by: str) -> Rule:
        """Return the integration rule.

        Raises:
            NirError: it is unknown.
        """
        if self.rule is None:
            raise NirError(
                f"node {needed_by!r} needs an integration rule, which NIR does not hold: give --rule euler (snnTorch, "
                "Norse, SpikingJelly) or --rule exponential (Sinabs, Rockpool)"
            )
        return self.rule

    def reset_rule(self, needed_by: str) -> Reset:
        """Return the reset.

        Raises:
            NirError: it is unknown.
        """
        if self.reset is None:
            raise NirError(
                f"node {needed_by!r} is reset at a spike, and NIR does not say how: give --reset zero or --reset "
                "subtract"
            )
        return self.reset


# defaults of the libraries, read in their sources: snnTorch 1.0.0, Norse 1.1.0, SpikingJelly 2.0.0, Sinabs 3.1.3
# Norse 1.1.0 writes dt * tau where tau is meant, so its step of 1e-3 s is 1e-6 in the file's unit.
BY_PRODUCER: Mapping[str, Convention] = {
    "snntorch": Convention(dt=1e-4, rule="euler", reset="subtract-next"),
    "norse": Convention(dt=1e-6, rule="euler", reset="zero", jumps=("I", "IF"), current_jumps=True),
    "spikingjelly": Convention(dt=1e-4, rule="euler", reset="zero", reached=True),
    "sinabs": Convention(
        dt=1.0,
        rule="exponential",
        reset="subtract-at-once",
        jumps=("I", "IF", "LI", "LIF"),
        reached=True,
        multiple=True,
    ),
}
# entry of the metadata: seconds of a step, if the file's unit of time is not the second
STEP_S: Mapping[str, float] = {"norse": 1e-3, "sinabs": 1e-3}


def convention(
    *,
    dt: float | None = None,
    rule: str | None = None,
    reset: str | None = None,
    producer: str | None = None,
    spikes: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Convention:
    """Combine conventions: the arguments override the producer's defaults, and these override a HetSyn file's entries.

    Args:
        dt: duration of a step.
        producer: the library that wrote the file.
        spikes: ``single`` or ``multiple`` spikes of a neuron in a step.
        metadata: the graph's; a HetSyn file has dt, rule and reset.

    Raises:
        NirError: a value is unknown.
    """
    choices = (
        ("rule", rule, RULES),
        ("reset", reset, RESETS),
        ("producer", producer, PRODUCERS),
        ("spikes", spikes, SPIKES),
    )
    for what, value, known in choices:
        if value is not None and value not in known:
            raise NirError(f"--{what} {value!r} is none of {', '.join(known)}: give one of them")
    found = BY_PRODUCER[producer] if producer is not None else of_metadata(metadata or {})
    if reset == "subtract" and producer is not None:
        reset = "subtract-next" if producer == "snntorch" else "subtract-at-once"
    given = {name: value for name, value in (("dt", dt), ("rule", rule), ("reset", reset)) if value is not None}
    step = found.dt if dt is None else dt
    if step is not None and not 0 < step < float("inf"):
        raise NirError(f"--dt {step:g} is not a duration: give the seconds of a step, above 0")
    multiple = found.multiple if spikes is None else spikes == "multiple"
    return replace(found, multiple=multiple, **given)  # type: ignore[arg-type]


def of_metadata(metadata: Mapping[str, Any]) -> Convention:
    """Read the convention of a HetSyn file; an empty one for any other file.

    Raises:
        NirError: its step is no number.
    """
    rule, reset = (metadata.get(f"hetsyn.{name}") for name in ("rule", "reset"))
    return Convention(
        dt=number_of(metadata, "dt", None),
        rule=rule if rule in RULES else None,
        reset=reset if reset in RESETS else None,
    )


def number_of(metadata: Mapping[str, Any], name: str, default: float | None) -> float | None:
    """Read a number of a HetSyn file.

    Raises:
        NirError: it is no number.
    """
    value = metadata.get(f"hetsyn.{name}", default)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise NirError(f"the file's hetsyn.{name} is {value!r}, not a number: write it again") from error
