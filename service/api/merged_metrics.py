"""The metrics of several workers as those of one server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# what all workers do or have together, so that a sum would count it once for each; all else is summed
_ALIKE: dict[str, Callable[[Iterable[float]], float]] = {
    "hetsyn_ready": min,
    "hetsyn_model_reloads": max,
    "hetsyn_model_versions": max,
    "hetsyn_models_offered": max,
    "hetsyn_models_withdrawn": max,
    "hetsyn_operator": min,
}


class _Merged(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged(texts: Sequence[bytes]) -> bytes:
    """Merge expositions.

    Args:
        texts: of the workers, in Prometheus's text format, each with the same metrics.
    """
    families: dict[str, Metric] = {}
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text.decode()):
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                key = family.name, sample.name, tuple(sorted(sample.labels.items()))
                values.setdefault(key, []).append(sample.value)
    for (name, sample_name, labels), found in values.items():
        families[name].add_sample(sample_name, dict(labels), _ALIKE.get(name, sum)(found))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(families.values()))
    return generate_latest(registry)
