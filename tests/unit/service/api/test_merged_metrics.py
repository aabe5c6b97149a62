"""The metrics of several workers as those of one server."""

from __future__ import annotations

from service.api.merged_metrics import merged

ONE = b"""# HELP hetsyn_ready 1 while requests should be sent here.
# TYPE hetsyn_ready gauge
hetsyn_ready 1.0
# HELP hetsyn_workers Processes that serve.
# TYPE hetsyn_workers gauge
hetsyn_workers 1.0
# HELP hetsyn_model_reloads_total Reloads of the models folder.
# TYPE hetsyn_model_reloads_total counter
hetsyn_model_reloads_total 2.0
# HELP hetsyn_chunks_total Chunks, by outcome.
# TYPE hetsyn_chunks_total counter
hetsyn_chunks_total{outcome="applied"} 5.0
hetsyn_chunks_total{outcome="replayed"} 1.0
# HELP hetsyn_store_commit_seconds From a chunk's result to its commit.
# TYPE hetsyn_store_commit_seconds summary
hetsyn_store_commit_seconds_count 4.0
hetsyn_store_commit_seconds_sum 0.5
"""


def test_counts_add_up_and_states_are_those_of_all() -> None:
    other = ONE.replace(b"hetsyn_ready 1.0", b"hetsyn_ready 0.0").replace(b'"applied"} 5.0', b'"refused"} 7.0')
    text = merged([ONE, other]).decode()
    for line in (
        "hetsyn_ready 0.0",
        "hetsyn_workers 2.0",
        "hetsyn_model_reloads_total 2.0",
        'hetsyn_chunks_total{outcome="applied"} 5.0',
        'hetsyn_chunks_total{outcome="refused"} 7.0',
        'hetsyn_chunks_total{outcome="replayed"} 2.0',
        "hetsyn_store_commit_seconds_count 8.0",
        "hetsyn_store_commit_seconds_sum 1.0",
        "# HELP hetsyn_chunks_total Chunks, by outcome.",
        "# TYPE hetsyn_chunks_total counter",
    ):
        assert line in text.splitlines()


def test_one_worker_is_itself() -> None:
    assert merged([ONE]) == ONE
