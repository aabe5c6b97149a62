"""The sentences are of the plan, and the page in the repository is that of the kept results."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from research.catalog import EARLIER, EXPERIMENTS
from research.runs.plan import PAPER, Cell
from research.runs.results import RESULTS, TABLE, read_file
from research.runs.run import RunSpec, open_task
from research.worth import experiments_page as page
from research.worth.bank_picture import worst_errors
from research.worth.judge import judge
from research.worth.measures import MEANS, MEASURES, read_results, share_above
from research.worth.pictures import PICTURES
from research.worth.sentences import expanded, read_sentences

SENTENCES, RELATED = read_sentences()
MOST_WORDS, MOST_PICTURES = 2000, 8


def test_the_page_in_the_repository_is_that_of_the_kept_results() -> None:
    groups = read_results()
    judged, related = judge(SENTENCES, groups), judge(RELATED, groups)
    text = page.compose(judged, groups)
    assert text == page.PAGE.read_text()
    folder = page.PAGE.with_suffix("")
    assert {path.name for path in folder.iterdir()} == {*PICTURES, page.TABLE}
    assert (folder / page.TABLE).read_text() == page.table(judged, related).to_csv(index=False)
    assert set(re.findall(r"experiments/([\w-]+\.png)", text)) == set(PICTURES)
    assert len(re.findall(r"\S*\w\S*", text)) <= MOST_WORDS
    assert len(PICTURES) <= MOST_PICTURES


def test_a_dagger_marks_the_paper_s_sentences_that_are_open_and_would_hold_among_themselves() -> None:
    groups = read_results()
    judged = judge(SENTENCES, groups)
    rows = [line.split(" | ") for line in page.compose(judged, groups).splitlines()]
    marked = {row[0] for row in rows if len(row) == 7 and row[-1].endswith("†")}
    of_paper = judge([sentence for sentence in SENTENCES if sentence.place], groups)
    alone = {one.sentence.text for one in of_paper if one.verdict == "supported"}
    assert marked == alone & {one.sentence.text for one in judged if one.verdict == "inconclusive"}


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        page.build(page=tmp_path / name / "experiments.md")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 2 + len(PICTURES)
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_every_side_is_in_the_plan_and_has_a_measure() -> None:
    plans = {name: plan() for name, plan in EXPERIMENTS.items()}
    for sentence in (*SENTENCES, *RELATED):
        for one in sentence.comparisons:
            for side in (one.side, one.other):
                if side is None or side.experiment in EARLIER or side.experiment == "equal-commands":  # of recipes/
                    continue
                assert side.measure in MEASURES, (sentence.text, side)
                for name in filter(None, (side.condition, side.since)):
                    condition = plans[side.experiment].condition(name)
                    assert condition.has(Cell(side.model, side.recurrent)), (sentence.text, side)  # type: ignore[arg-type]


def test_synthesised_voices_are_never_taken_for_shd() -> None:
    for sentence in SENTENCES:
        experiments = {one.side.experiment for one in sentence.comparisons}
        assert ("shd-recorded" in experiments) == sentence.text.startswith("SHD"), sentence.text


def test_no_sentence_is_there_twice() -> None:
    assert len({sentence.id for sentence in SENTENCES}) == len(SENTENCES)
    assert len({sentence.text for sentence in SENTENCES}) == len(SENTENCES)
    for sentence in SENTENCES:
        labels = Counter(one.label for one in sentence.comparisons)
        assert set(labels.values()) == {len(MEANS) if sentence.id == "cue_taus" else 1}, sentence.text


def test_braces_stand_for_each_of_what_is_in_them() -> None:
    assert list(expanded("a{,/b}/{hetsyn,c}")) == [
        ("a/hetsyn", ("HetSyn",)),
        ("a/c", ("c",)),
        ("a/b/hetsyn", ("b", "HetSyn")),
        ("a/b/c", ("b", "c")),
    ]


def test_two_runs_of_a_seed_are_refused(tmp_path: Path) -> None:
    results = json.loads(gzip.decompress((RESULTS / "vision-rows.json.gz").read_bytes()))
    other = [result | {"run": result["run"] | {"learning_rate": 7.0}} for result in results]
    (tmp_path / "vision-rows.json.gz").write_bytes(gzip.compress(json.dumps(results + other).encode()))
    with pytest.raises(ValueError, match="delete the one of the earlier plan"):
        read_results(tmp_path)
    with pytest.raises(ValueError, match="no results"):
        read_results(tmp_path / "nothing")


def test_networks_train_as_many_values_as_table_3_says() -> None:
    seen = set()
    for result in (*read_file(RESULTS / f"pattern-generation{TABLE}"), *read_file(RESULTS / f"delayed-match{TABLE}")):
        run = result.run
        if run["condition"] != PAPER:
            continue
        if (cell := (run["experiment"], run["model"], run["recurrent"])) in seen:
            continue
        seen.add(cell)
        shape = open_task(RunSpec.from_dict(run)).shape
        inputs, expected = shape.channels, 0
        for neurons, is_recurrent in (*((n, run["recurrent"]) for n in shape.hidden), (shape.outputs, False)):
            synapses = inputs * neurons + neurons * neurons * is_recurrent
            expected += {"hetsyn": 2 * synapses, "hetneu": synapses + neurons}.get(run["model"], synapses)
            inputs = neurons
        assert result.parameters == expected, cell
    assert len(seen) == 16


@pytest.mark.parametrize("above", [0, 2, 10])
def test_a_tail_is_read_from_the_histogram(above: int) -> None:
    counts = [100 - above] + [0] * 20 + [above]  # the first half octave, and the last
    run = {"analysis": {"time_constants": {"readout input": {"after": {"counts": counts}}}}}
    assert share_above(run, "readout input", 20.0) == above / 100


def test_the_bank_is_below_every_other_way() -> None:
    errors = worst_errors()
    bank = errors.pop("the bank")
    assert bank[1:] == pytest.approx(errors.pop("Zolotarev's asymptote")[1:], rel=0.03)
    for name, others in errors.items():
        assert all(one <= 1.0001 * other for one, other in zip(bank, others, strict=True)), name
