"""The networks of all libraries, by library and name. A library is imported when one of its networks is made."""

from __future__ import annotations

from collections.abc import Callable

from tests.long.libraries import of_norse, of_sinabs, of_snntorch, of_spikingjelly
from tests.long.libraries.case import Case

CASES: dict[str, dict[str, Callable[[], Case]]] = {
    "snntorch": {
        "Leaky": of_snntorch.leaky,
        "Leaky, reset to zero": of_snntorch.leaky_zero,
        "Synaptic": of_snntorch.synaptic,
        "RLeaky": of_snntorch.rleaky,
        "RSynaptic": of_snntorch.rsynaptic,
    },
    "norse": {
        "LIFBoxCell": of_norse.lif_box,
        "LIFCell": of_norse.lif,
        "IAFCell": of_norse.iaf,
        "LIFRecurrentCell": of_norse.lif_recurrent,
    },
    "spikingjelly": {
        "LIFNode": of_spikingjelly.lif,
        "IFNode": of_spikingjelly.if_,
        "ParametricLIFNode": of_spikingjelly.plif,
        "CUBALIFNode": of_spikingjelly.cubalif,
        "LinearRecurrentContainer of LIFNode": of_spikingjelly.lif_recurrent,
    },
    "sinabs": {
        "LIF": of_sinabs.lif,
        "LIF, SingleSpike": of_sinabs.lif_single,
        "IAF": of_sinabs.iaf,
        "LIFRecurrent, SingleSpike": of_sinabs.lif_recurrent,
    },
}
