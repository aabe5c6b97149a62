"""The description of a neuron, and the four neuron models of the paper."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from hetsyn_model.spec.errors import SpecError, require
from hetsyn_model.spec.own import OwnNeurons, decay_of
from hetsyn_model.spec.resonance import ResonanceSpec

Decays = Literal["synapse", "neuron", "shared"]
Potential = Literal["currents", "membrane"]
Reset = Literal["subtract", "subtract_at_once", "zero"]
MEMBRANE_RESETS: tuple[Reset, ...] = get_args(Reset)  # in the order of the operators' numbers
Variant = Literal["hetsyn", "hetneu", "homneu", "alif"]


OWN_NEURONS: dict[str, type[OwnNeurons]] = {"resonance": ResonanceSpec}  # by their field in NeuronSpec


@dataclass(frozen=True)
class NeuronSpec:
    """What a neuron does with its currents, and which synapses share a decay.

    ``docs/explanation/model.md`` has the equations. A layer has thresholds and kappa by neuron
    (``hetsyn_model.layer``); the numbers here are their initial values.

    Attributes:
        decays: one decay a ``synapse`` (HetSyn), a ``neuron`` and path, or one ``shared`` by a layer.
        potential: ``currents``: their sum less a reset current (equation 5); or ``membrane``: a membrane with a decay
            kappa adds the currents up (the LIF and CubaLIF of other libraries). In a network of membranes the readout
            has one too.
        reset: effect of a spike on a membrane. ``subtract``: the threshold is subtracted in the next step, after the
            decay (snnTorch); ``subtract_at_once``: in the spike's own step, so it decays with the rest (Norse,
            SpikingJelly, Sinabs); ``zero``: the membrane becomes 0. A potential of currents has ``subtract``, by a
            reset current.
        tied: input, recurrent and reset path of a neuron share one decay (needs ``neuron`` or ``shared``).
        tied_reset: the reset shares that decay too; if not, it has ``tau_reset_steps``.
        learn_decays: training changes the decays.
        threshold: potential above which (strictly) a neuron fires; also the size of its reset.
        tau_reset_steps: time constant of the reset current, unless tied, or of the membrane.
        tau_init_steps: lower and upper end of the uniform distribution of initial time constants.
        decay_range: ``Network.clamp_decays_`` clamps the decays to this range after an optimiser step; 1 is legal.
            (0, 0): synapses have no decays and no currents; a spike acts in one step only.
        adaptation_strength: rise of the threshold at a spike (ALIF); 0: no adaptation, and no state for it.
        adaptation_tau_steps: time constant of that rise.
        resonance: a recovery current that makes the membrane swing (SE-adLIF); None without. Its neurons have their own
            time constants, so ``tau_reset_steps`` applies to the readout alone.
    """

    decays: Decays = "synapse"
    potential: Potential = "currents"
    reset: Reset = "subtract"
    tied: bool = False
    tied_reset: bool = True
    learn_decays: bool = True
    threshold: float = 1.0
    tau_reset_steps: float = 20.0
    tau_init_steps: tuple[float, float] = (5.0, 20.0)
    decay_range: tuple[float, float] = (0.0, 1.0)
    adaptation_strength: float = 0.0
    adaptation_tau_steps: float = 100.0
    resonance: ResonanceSpec | None = None

    def __post_init__(self) -> None:
        require(self.decays in get_args(Decays), f"neuron.decays: {self.decays!r} is none of {get_args(Decays)}")
        require(
            not (self.tied and self.decays == "synapse"),
            "neuron.tied: one decay for all paths needs decays 'neuron' or 'shared'",
        )
        require(
            self.potential in get_args(Potential),
            f"neuron.potential: {self.potential!r} is none of {get_args(Potential)}",
        )
        require(self.reset in get_args(Reset), f"neuron.reset: {self.reset!r} is none of {get_args(Reset)}")
        require(
            self.potential == "membrane" or self.reset == "subtract",
            f"neuron.reset: {self.reset!r} needs potential 'membrane': currents know 'subtract'",
        )
        require(
            not (self.tied and self.potential == "membrane"),
            "neuron.tied: a membrane's decay is its own: leave tied out, or take potential 'currents'",
        )
        require(self.threshold > 0, f"neuron.threshold: {self.threshold} is not above 0")
        require(self.tau_reset_steps > 0, f"neuron.tau_reset_steps: {self.tau_reset_steps} is not above 0")
        low, high = self.tau_init_steps
        require(0 < low <= high, f"neuron.tau_init_steps: {self.tau_init_steps} is not 0 < low <= high")
        low, high = self.decay_range
        require(
            0 <= low < high <= 1 or low == high == 0,
            f"neuron.decay_range: {self.decay_range} is neither 0 <= low < high <= 1 nor (0, 0)",
        )
        require(not self.tied or self.is_filtered, "neuron.tied: without decays there is nothing to share")
        require(self.tied or self.tied_reset, "neuron.tied_reset: false needs tied: true")
        require(self.adaptation_strength >= 0, f"neuron.adaptation_strength: {self.adaptation_strength} is below 0")
        require(
            self.adaptation_tau_steps > 0, f"neuron.adaptation_tau_steps: {self.adaptation_tau_steps} is not above 0"
        )
        if self.own is not None:
            self.own.check(self)
        require(
            self.own is None or not self.adaptive,
            f"neuron.adaptation_strength: neurons with {self.own_name} have no other adaptation: leave it 0",
        )

    @property
    def own(self) -> OwnNeurons | None:
        """Return the description of neurons with their own equations; None for the base family."""
        return None if self.own_name is None else getattr(self, self.own_name)

    @property
    def own_name(self) -> str | None:
        """Return the field's name of :attr:`own`; None for the base family."""
        return next((name for name in OWN_NEURONS if getattr(self, name) is not None), None)

    def without_own(self) -> NeuronSpec:
        """Return a copy of the base family, for a readout that does not spike."""
        nothing: dict[str, Any] = dict.fromkeys(OWN_NEURONS)
        return replace(self, **nothing)

    @property
    def adaptive(self) -> bool:
        return self.adaptation_strength > 0

    @property
    def has_own_reset(self) -> bool:
        """Return whether the reset current has its own time constant."""
        return not (self.is_membrane or (self.tied and self.tied_reset))

    @property
    def is_membrane(self) -> bool:
        """Return whether the state has the potential, and no reset current."""
        return self.potential == "membrane"

    @property
    def is_filtered(self) -> bool:
        """Return whether synapses have decays, and so currents in the state."""
        return self.decay_range[1] > 0

    @property
    def per_synapse(self) -> bool:
        """Return whether each synapse has its own decay, and so its own current."""
        return self.decays == "synapse" and self.is_filtered

    @property
    def memory_steps(self) -> float:
        """Compute twice the sum, over the steps, of a spike's squared effect; it sizes the initial weights."""
        low, high = self.tau_init_steps
        synaptic = (low + high) / 2
        response = None if self.own is None else self.own.response(decay_of(synaptic) if self.is_filtered else 0.0)
        if response is not None:
            return 2 * sum(effect**2 for effect in response)
        if self.potential == "currents":
            return synaptic if self.is_filtered else 0.0
        membrane = self.tau_reset_steps
        return (synaptic * membrane) ** 2 / (synaptic + membrane) if self.is_filtered else membrane

    @property
    def first_effect(self) -> float:
        """Compute what a spike of weight 1 adds to a potential in its own step, from the initial constants."""
        return 1.0 if self.own is None else self.own.first_effect


def se_adlif(readout_tau_steps: float = 15.0) -> NeuronSpec:
    """Describe SE-adLIF with its paper's settings (arXiv 2408.07517), steps of 4 ms: no synaptic decay, leaky readout.

    Its surrogate is ``SurrogateSpec("exponential", width=0.2)``.
    """
    return NeuronSpec(
        decays="shared",
        potential="membrane",
        reset="zero",
        tau_reset_steps=readout_tau_steps,
        decay_range=(0.0, 0.0),
        resonance=ResonanceSpec(),
    )


def variant(
    name: Variant,
    *,
    tau_steps: float = 20.0,
    tau_init_steps: tuple[float, float] = (5.0, 20.0),
    threshold: float = 1.0,
    adaptation_tau_steps: float = 100.0,
    adaptation_strength: float = 0.05,
    reset_tau_steps: float | None = None,
) -> NeuronSpec:
    """Describe one of the paper's neuron models (arXiv 2508.11644, section 3.3).

    Args:
        name: ``hetsyn``, a learned decay a synapse and a fixed reset; ``hetneu``, a learned decay a neuron, tied
            (Proposition 3); ``homneu``, one fixed decay for all (Proposition 1); ``alif``, the same with an adaptive
            threshold (Proposition 2).
        tau_steps: time constant of the reset (``hetsyn``), or of everything (``homneu``, ``alif``).
        tau_init_steps: range of the initial time constants that are learned.
        adaptation_tau_steps: time constant of the adaptation (``alif``).
        adaptation_strength: rise of the threshold at a spike (``alif``).
        reset_tau_steps: fixed time constant of the reset current, whatever the model, as in the paper's experiments
            (tau_J); None: tied to the neuron's decay, as in the propositions.

    Raises:
        SpecError: no model has that name.
    """
    if name not in get_args(Variant):
        raise SpecError(f"variant: {name!r} is not one of {get_args(Variant)}")
    if name == "hetsyn":
        tau_reset = tau_steps if reset_tau_steps is None else reset_tau_steps
        return NeuronSpec(threshold=threshold, tau_reset_steps=tau_reset, tau_init_steps=tau_init_steps)
    learned = name == "hetneu"
    neuron = NeuronSpec(
        decays="neuron" if learned else "shared",
        tied=True,
        learn_decays=learned,
        threshold=threshold,
        tau_init_steps=tau_init_steps if learned else (tau_steps, tau_steps),
    )
    if name == "alif":
        neuron = replace(neuron, adaptation_strength=adaptation_strength, adaptation_tau_steps=adaptation_tau_steps)
    return neuron if reset_tau_steps is None else replace(neuron, tied_reset=False, tau_reset_steps=reset_tau_steps)
