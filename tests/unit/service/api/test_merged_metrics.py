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
# TYPE hetsyn_store_commit_seconds histogram
hetsyn_store_commit_seconds_bucket{le="0.5",model="digits"} 3.0
hetsyn_store_commit_seconds_bucket{le="+Inf",model="digits"} 4.0
hetsyn_store_commit_seconds_count{model="digits"} 4.0
hetsyn_store_commit_seconds_sum{model="digits"} 0.5
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
        'hetsyn_store_commit_seconds_bucket{le="0.5",model="digits"} 6.0',
        'hetsyn_store_commit_seconds_bucket{le="+Inf",model="digits"} 8.0',
        'hetsyn_store_commit_seconds_count{model="digits"} 8.0',
        'hetsyn_store_commit_seconds_sum{model="digits"} 1.0',
        "# HELP hetsyn_chunks_total Chunks, by outcome.",
        "# TYPE hetsyn_chunks_total counter",
    ):
        assert line in text.splitlines()


def test_one_worker_is_itself() -> None:
    assert merged([ONE]) == ONE


def test_a_series_that_one_worker_alone_has_is_kept() -> None:
    other = ONE.replace(b'model="digits"', b'model="tones"')
    lines = merged([ONE, other]).decode().splitlines()
    for model in ("digits", "tones"):
        buckets = [line for line in lines if line.startswith("hetsyn_store_commit_seconds_bucket") and model in line]
        assert [line.rpartition(" ")[2] for line in buckets] == ["3.0", "4.0"]
    assert len([line for line in lines if line.startswith("# TYPE hetsyn_store_commit_seconds")]) == 1
