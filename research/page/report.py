"""``make report``: docs/experiments.md with its pictures, from the results in the repository and the plan alone.

python -m research.page.report [--results DIR] [--page FILE]
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from textwrap import fill

from research.catalog import EXPERIMENTS
from research.claims.by_epoch import by_epoch_table
from research.claims.measures import plan_of
from research.claims.resonance_claims import ABOUT_RESONANCE
from research.claims.tables import table
from research.claims.wording import number, spread, three_digits
from research.page.bank_tables import SCALED as BANK_SIZE_SCALED
from research.page.bank_tables import bank_table, size_section, weights_table
from research.page.paper_section import paper_section
from research.page.pictures import Pictures
from research.page.stream_section import ABOUT, stream_table
from research.page.verdict_section import verdict_section
from research.runs.names import NAMES
from research.runs.plan import Cell, Condition, Experiment, cells
from research.runs.planned import belongs, run_count, searches
from research.runs.results import RESULTS, RunResult, read_folder
from research.runs.run import NeuronModel, is_search, open_task_shape
from research.runs.runner import chosen_by_search

PAGE = Path(__file__).resolve().parents[2] / "docs/experiments.md"
SCALED = {
    "pattern-generation": "As in the paper: 100-100-1, amplitudes U(0, 1), background noise of 2 Hz (or what the "
    "condition says), 1,000 updates of one trial, the rate term, and a reset of 20 ms in all models. The base "
    "condition searches learning rates and time constants, which the paper does not do.",
    "delayed-match": "As in the paper: 30-N-2 with N = 100 unless the condition gives another number, 1,000 updates "
    "of 32 trials, the rate term, and a reset of 40 ms in all models. 128 trials choose the update, and 1,000 test it. "
    "The base condition has 20 neurons and a delay of 800 ms. It searches learning rates and time constants, which the "
    "paper does not do.",
    "vision-rows": "Not in the paper: Fashion-MNIST, one row a step. An image takes 28 steps instead of 784, which is "
    "thirty times faster. Scaled down: four epochs of 55,000 images instead of 150 of 60,000. 2,500 images choose the "
    "epoch, and all 10,000 test images are used for the test. The LSTM gets grey values, the other models get spikes. "
    "The rules of its claims stood before its runs; those on pairs and fractional kernels are younger than some of "
    "HetSyn's runs, and older than those of pairs and fractional kernels. Two claims compare the learned order with "
    "runs of `resonance-rows`, which has the same images and training, nine first candidates of 171 updates in place "
    "of six of 107, and HetNeu's own reset; they are younger than the runs of the learned "
    "order, and older than those of the other side but HetNeu's first three.",
    "shd": "**Not SHD.** The experiment trains the paper's network for SHD on a set in SHD's form: German and English "
    "digits of synthesised voices (`python -m recipes.speech shd-voices`), in 700 channels of the project's own "
    "encoder instead of a cochlea model. The figures compare the four models with each other. They cannot be "
    "compared with figures on SHD. As in the paper: 700-128-64-20, 250 steps of 4 ms, batches of 32. Scaled down:"
    " about seven epochs instead of 100, three seeds. Every fifth speaker is in the test file only. The seed "
    "selects a sixth of the other speakers; these choose the update. These networks were trained through banks of"
    " 4 decays, not of 8.",
    "bank-size": BANK_SIZE_SCALED,
    "fractional": "Not in the paper: fractional kernels of fixed and of learned order on Fashion-MNIST in rows, with "
    "HetNeu's synapses, a reset through the neuron's own synapse, banks of 10. Order 1, the control, is HetNeu with "
    "its time constant searched. Every order has the same search: candidates as long as the final runs, two runs of "
    "each, whose mean chooses, first over learning rates and time constants, then over the rate of the decays. Single "
    "runs of a quarter of that length, used at first, took settings for the control that are not its best. A second "
    "version had no second stage. Most candidates of its control broke down; its figures (learned order 82.1%, control "
    "78.0%) were known when the stage was added, and the stage does not change the control: why it breaks down is not "
    "known. The rules of its claims stood before its runs.",
    "pairs": "Not in the paper: each of HetSyn's synapses as an excitatory-inhibitory pair, on the same task, with the "
    "same search for both kernels: three runs of each candidate. `pair` has fewer neurons, and about the parameters of "
    "the base; the verdict is on it. The rule of its claim stood before its runs.",
    "shd-recorded": "The Spiking Heidelberg Digits themselves (`--data DIR` with `shd_train.h5` and `shd_test.h5`), "
    "with the same plan and ten epochs. `paper-settings` is the paper's experiment for a hundred epochs "
    "([Data](guides/own-networks.md#data-sets)). `shd` and `shd-recorded` each refuse the other's files.",
    "resonance-rows": ABOUT_RESONANCE,
    "delays": "Not in the paper: the set, the network and the training of `shd`, whose figures say nothing about SHD. "
    "In each condition but the base, every unit of one path has one delay of up to 24 steps (96 ms), learned or fixed "
    "at random: of the spikes into each layer, or of each hidden layer's own. Every condition is searched apart, with "
    "as many candidates. A delay a unit adds 0.1 or 0.4% to HetSyn's trained values. The rules of its claims stood "
    "before its runs.",
    "delays-series": "Not in the paper: delays on MNIST-1D, with the data and the training of `mnist1d`. A delay "
    "learns by up to 0.05 steps an update, so 1,400 updates are enough for it to cross its range. Recurrent delays "
    "have up to 24 steps. Input delays have up to 8: a spike is late twice, and a series has 40 steps, of which the "
    "last ten count. Every condition is searched apart, over the weights' rate and the time constant; candidates are "
    "as long as the final runs. The rate of the delays is not searched. `wide` has as many trained values as the "
    "HetSyn network. The rules of its claims stood before these runs. A first version, with a smaller grid whose "
    "corner all chose and with longer input delays, had run before; its figures were known when the plan was changed "
    "and the comparison of `wide` with `wide` was added. They are not kept.",
} | ABOUT
INTRODUCTION = """# The paper's experiments

`make report` writes this page from `research/results/`; do not edit it. It shows the experiments of
HetSyn (arXiv 2508.11644) at a size that two cores can run in hours.

`python -m research NAME` runs one experiment. With `--smoke`, it only tests the program, in seconds. NAME is
{names}.
Finished runs are never repeated, not even on another machine: results accumulate in that folder. To use two cores,
start two processes with `--share 1/2` and `--share 2/2`. {finished:,} of {planned:,} runs of the plan are finished,
with those of the searches. Their training took {hours:.1f} core hours; the analysis of trained networks comes on top.
[Settings](explanation/experiment-settings.md) explains how the settings were found.

Data: MNIST-1D and the watch's motion come with `pip install ./research`, Fashion-MNIST with
`apt-get install dataset-fashion-mnist`. `shd` and `delays` need `--data` with the files of
`python -m recipes.speech shd-voices`; for `all`, write `--data shd=DIR --data delays=DIR`.
The paper's own data sets are not here: [Data](guides/own-networks.md#data-sets) has commands, times and figures.

Networks are trained in the bank form, and tested in both forms. Where the column "exact form" is empty, the exact form
was tested on some of the test streams only: see the claims, and the tables of banks. Validation data chooses the epoch.
On images, some search ranges and the encoding were chosen by test figures of HetSyn
([Settings](explanation/experiment-settings.md)).
Each neuron model gets the same search on the base condition, with a separate seed: all pairs of a few learning rates
and time constants. For LIF and ALIF this is the fixed time constant, for HetNeu and HetSyn the mean of the initial
ones. The LSTM has no time constant, and gets as many learning rates as the others get pairs. In `vision-rows`
and `shd-recorded`, a second, longer stage tries four candidates at the best pair: for HetNeu and HetSyn four learning
rates of the decays (x 0.2, 0.4, 1 and 2), for the others four learning rates (x 0.5, 1, 1.5 and 2). Most conditions use
the result of this search. Some conditions have a search of their own (see the tables). In "paper-settings", every
model has the paper's learning rate and (initial) time constant. The paper compares the models in this way; it does not
tune the shared time constant of LIF and ALIF. Names of such conditions end with what differs: `hidden-20` has 20 hidden
neurons, `tau-100` an initial time constant of 100 ms, `noise-3` background noise of 3 Hz (in delayed match: added
noise), `rate-1e-4` a learning rate.
In the paper's experiments, `motion` and `mnist1d`, the reset decays alike in all models. Elsewhere that of HetNeu,
ALIF and LIF decays as their currents do, and only HetSyn's has a time constant of its own.
"±" is the standard deviation over seeds. Spikes that differ from the exact form are a share of the spikes of the exact
form, so this share can be more than 100%.
"""


def build(results: Sequence[RunResult], page: Path) -> None:
    """Write the page and its pictures, in a folder of the page's name beside it; old pictures go."""
    folder = page.with_suffix("")
    if folder.exists():
        shutil.rmtree(folder)
    pictures = Pictures(folder.name)
    text = compose(results, pictures)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)
    for name, draw in pictures.drawings.items():
        folder.mkdir(exist_ok=True)
        draw(folder / name)


def compose(results: Sequence[RunResult], pictures: Pictures) -> str:
    """The page's text; its pictures are added to those given."""
    plans = {name: plan_of(name) for name in EXPERIMENTS}
    planned = [r for r in results if belongs(plans[r.run["experiment"]], r.run)]
    names = fill(", ".join(f"`{name}`" for name in EXPERIMENTS), 120, break_on_hyphens=False)
    hours = sum(result.seconds for result in planned) / 3600
    introduction = INTRODUCTION.format(
        names=names, hours=hours, finished=len(planned), planned=sum(sum(run_count(plan)) for plan in plans.values())
    )
    parts = [introduction, verdict_section(planned)]
    if len(planned) < len(results):
        parts.append(f"Left out: {len(results) - len(planned)} results of runs that are no longer in the plan.\n")
    for name, plan in plans.items():
        mine = [result for result in planned if result.run["experiment"] == name]
        parts.append(_experiment(plan, mine, pictures))
    return "\n".join(parts)


def _experiment(experiment: Experiment, results: Sequence[RunResult], pictures: Pictures) -> str:
    searches, finals = run_count(experiment)
    finished = [r for r in results if not is_search(r.run["condition"])]
    searched = len(results) - len(finished)
    text = f"## {experiment.name}\n\n{SCALED[experiment.name]}\n\n"
    hours = sum(result.seconds for result in results) / 3600
    search = f"{searched} of {searches} search runs, " if searches else ""
    text += f"Finished: {search}{len(finished)} of {finals} runs"
    text += f"; {hours:.1f} core hours of training." if results else "."
    if results and (searched, len(finished)) != (searches, finals):
        text += f" `python -m research {experiment.name}` runs the rest."
    text += "\n\n"
    if results:
        text += _search_table(experiment, results)
    if not finished:
        return text + f"Not yet run: `python -m research {experiment.name}`.\n"
    if experiment.name == "bank-size":
        return text + _main_table(experiment, finished) + size_section(finished, pictures)
    analysed = [condition for condition in experiment.conditions if condition.analysed]
    return (
        text
        + _main_table(experiment, finished)
        + by_epoch_table(_groups(experiment, finished))
        + paper_section(experiment.name, finished, pictures)
        + "".join(_analyses(experiment, condition, finished) for condition in analysed)
    )


def _search_table(experiment: Experiment, results: Sequence[RunResult]) -> str:
    rows = []
    for cell, search in ((each, search) for each in cells(experiment) for search in searches(experiment, each)):
        candidates = chosen_by_search(results, cell, search.condition, experiment.search.repeated(search.seed))
        if candidates:
            best = candidates[0]
            rows.append(
                (
                    *(search.name, NAMES[cell.model], _kind(cell.recurrent), str(len(candidates))),
                    *(f"{best.run['learning_rate']:g}", f"{best.run['tau_steps']:g}", _decays_rate(cell, best)),
                    number(best.metric, best.validation),
                )
            )
    head = ("search on", "model", "", "candidates", "learning rate", "tau, steps", "decays' rate", "validation")
    return table(head, rows) + "\n" if rows else ""


def _decays_rate(cell: Cell, best: RunResult) -> str:
    return f"x {best.run['training']['decay_rate_factor']:g}" if cell.trains_decays else ""


def _main_table(experiment: Experiment, finished: Sequence[RunResult]) -> str:
    rows = []
    for condition, model, recurrent, group in _groups(experiment, finished):
        first = group[0]
        sizes = first.state_bytes
        rows.append(
            (
                *(condition.name, NAMES[model], _kind(recurrent)),
                "-".join(str(n) for n in first.run["task_spec"]["hidden"]),
                f"{len(group)} of {condition.seeds_of(Cell(model, recurrent))}",
                f"**{spread(first.metric, [r.figure for r in group])}**",
                spread(first.metric, [r.exact["figure"] for r in group]) if all(r.exact for r in group) else "",
                f"{fmean(r.firing_hz for r in group):.1f}",
                f"{first.parameters:,}",
                f"{sizes['exact']:,}" if "exact" in sizes else "",  # fractional kernels have no exact form
                f"{sizes['bank']:,}" if "bank" in sizes else "",
            )
        )
    figure = "accuracy" if finished[0].metric == "accuracy" else "mean squared error"
    head = ("condition", "model", "", "hidden", "seeds", f"{figure}, as trained", "exact form", "rate, Hz")
    return table((*head, "trained values", "bytes of state, exact", "bank"), rows) + "\n"


def _groups(
    experiment: Experiment, finished: Sequence[RunResult]
) -> list[tuple[Condition, NeuronModel, bool, list[RunResult]]]:
    groups: list[tuple[Condition, NeuronModel, bool, list[RunResult]]] = []
    for condition in experiment.conditions:
        for recurrent in condition.recurrent:
            for model in condition.models:
                wanted = (experiment.name, condition.name, model, recurrent)
                group = [r for r in finished if r.key[:4] == wanted]
                if group:
                    groups.append((condition, model, recurrent, group))
    return groups


def _analyses(experiment: Experiment, condition: Condition, finished: Sequence[RunResult]) -> str:
    recurrent = condition.recurrent[0]
    base = [r for r in finished if r.run["condition"] == condition.name and r.run["recurrent"] == recurrent]
    analysed = [r for r in base if r.analysis]
    text = stream_table([r for r in analysed if "stream" in r.analysis])
    het = [r for r in analysed if r.run["model"] == "hetsyn"]
    if het:
        step_s = open_task_shape(het[0].run).step_s
        text += _tau_table(het, step_s) + (_lesion_table(het) if "lesion" in het[0].analysis else "")
    refitted = [r for r in het if "bank" in r.analysis]  # kernels other than exponentials are not
    if refitted:
        text += bank_table(refitted) + weights_table(refitted)
    if not text:
        return ""
    return (
        f"Analyses of {condition.name}, {_kind(recurrent)}. Changed inputs and lesions are tested on the first "
        f"{experiment.changed_streams:,} test streams, banks and weights on the first "
        f"{experiment.analysis_streams:,}, or on all where there are fewer. So their accuracies may differ from those "
        f"of the table of conditions.\n\n{text}"
    )


def _tau_table(results: Sequence[RunResult], step_s: float) -> str:
    rows = []
    for group in results[0].analysis["time_constants"]:
        change = [r.analysis["time_constants"][group] for r in results]
        cells_ = [
            three_digits(1e3 * step_s * fmean(c[when][which] for c in change))
            for which in ("median", "log_mean")
            for when in ("before", "after")
        ]
        rows.append((group, *cells_))
    head = ("time constants of HetSyn, ms", "median before", "after", "geometric mean before", "after")
    return table(head, rows) + "\n"


def _lesion_table(results: Sequence[RunResult]) -> str:
    rows = []
    for row in results[0].analysis["lesion"]:
        same = [
            other["figure"]
            for r in results
            for other in r.analysis["lesion"]
            if (other["which"], other["share"]) == (row["which"], row["share"])
        ]
        rows.append((f"{100 * row['share']:g}%", row["which"], spread(results[0].metric, same)))
    return table(("synapses cut", "by time constant", "HetSyn"), rows) + "\n"


def _kind(recurrent: bool) -> str:
    return "recurrent" if recurrent else "feedforward"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the report of the experiments.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the kept results")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    arguments = parser.parse_args()
    results = read_folder(arguments.results)
    build(results, arguments.page)
    print(f"{arguments.page}: {len(results)} results")


if __name__ == "__main__":
    main()
