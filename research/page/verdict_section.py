"""The report's section of verdicts: the rules in words, the paper's claims, and our own questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from research.claims.our_claims import OUR_CLAIMS
from research.claims.paper_claims import PAPER_CLAIMS
from research.claims.relations import ClaimVerdict
from research.claims.rules import CEILING, MIN_SEEDS, SAME_FACTOR, SAME_POINTS, SUCCESS, Claim, describe, groups_of
from research.claims.statistics import ALPHA, MOST_FISHER_RUNS, MOST_RUNS, POWER, RUNS_AT_CEILING
from research.claims.tables import table
from research.claims.verdicts import Finding, findings
from research.runs.results import RunResult

RULES = f"""## Verdicts

`paper_claims.py`, `our_claims.py` and others in `research/claims/` have the rules, so that they stand before the
runs. Those of pattern generation, delayed match, `vision-rows`, `bank-size`, `motion`, `mnist1d`, delays, kernels and
resonance did; whoever wrote those of the first two knew the figures of short earlier runs. The rule on how errors grow
with noise is younger than the first runs of pattern generation, and older than those with other noise. Rules that a
review of this page changed are younger than their runs: cue and noise synapses of Table 4 one by one, the mean error
over training with recurrence, the runs that a ceiling of success rates needs, and the longer search of `pairs` and
`fractional`. The runs of `shd` are older than its rules.

**Seeds.** Two groups are compared seed by seed, over the seeds that both have. In pattern generation a seed gives every
model the same target trace, in `motion` the same person to leave out. Elsewhere it gives them the same
training data, and every seed is tested on the same streams: an interval is then over trainings, and does not say how a
network does on other test data. People in `motion` train each other's networks, so these intervals are a
little too narrow. A claim needs {MIN_SEEDS} seeds of each group. Where its comparisons have different numbers of seeds,
the column names each, in their order. The figures are then over all seeds of a group, the differences over the seeds
that both groups have, so one does not follow from the other.

**Differences** are the first group minus the other one, in points of accuracy or in updates saved. "Better, three
comparisons" is HetSyn against each of the others, or each model against the next. Errors and time constants are
compared as logarithms, so a difference is a factor, above 1 if the first group is better. "HetNeu x 4.9" means, of
errors, that HetNeu has 4.9 times HetSyn's; of distances and shares, that HetSyn has 4.9 times HetNeu's. How much an
error grows with noise is compared as it is, as in the paper's figure: as a factor, the smallest error would grow the
most. There one run may weigh as much as all others, so Wilcoxon's signed ranks stand beside it; the verdict is that of
the interval. In parentheses is Student's t interval. The comparisons of a claim share an error of {ALPHA:.0%} by
Holm's procedure, and each interval has the level of its step: {1 - ALPHA / 3:.1%} for the first of three,
{1 - ALPHA:.0%} for a single one. An accuracy is never taken to be more precise than one test stream, nor a number of
updates more than the time between two evaluations. A run that never reaches an accuracy counts as one evaluation longer
than it was, and two that never do are not the same.

**Success rates** (runs with an accuracy of {SUCCESS:.0%} or more) are compared by Fisher's exact test, as twice its
one-sided p, with the exact interval of the odds ratio: above 1 means that the first group succeeds more often.
Percentages in parentheses are Wilson's 95% intervals. Two groups that always succeed are at the ceiling from
{RUNS_AT_CEILING} runs on: then these intervals begin above {SUCCESS:.0%}. So a ceiling does not say that HetSyn
succeeds more often: with these settings the other model is as good, as far as so many runs can tell.

**Sameness** is shown by two one-sided t tests at {ALPHA:.0%}, divided by the number of comparisons. For one comparison,
the {1 - 2 * ALPHA:.0%} interval lies within the margin.

"Mean within a range" is shown in the same way.

| verdict | "better" | "same within a margin" | "mean above a goal" |
| --- | --- | --- | --- |
| supported | all intervals are above 0 (factors and odds: above 1) \
| the interval is within the margin | the interval is above the goal |
| contradicted | an interval is below 0 (1), or two groups are the same within {SAME_POINTS:g} point or a factor of \
{SAME_FACTOR:g} | the interval is beyond the margin | the interval is below the goal |
| ceiling | two groups are at {CEILING:.0%} or more, or always succeed, and nothing separates them | both are at \
{CEILING:.0%} or more | |
| inconclusive | anything else | anything else | anything else |

**Power.** "Found with {POWER:.0%} power" is the smallest difference that so many seeds find in {POWER:.0%} of the
cases, if they differ as these do: from the other group, or from the goal or the middle of a range. Of success rates it
is the highest lower rate that is told from the first group's. Of sameness and ranges it is the smallest difference that
contradicts: from the other group, or from the middle.

**Seeds needed** are the seeds in all that decide an open claim with {POWER:.0%} power, if the effect is as large as
seen here (for three comparisons at {ALPHA / 3:.1%}). In parentheses are the core hours of those that have not run. A
claim of several comparisons falls with one. So if a comparison points against the claim, or to no difference worth
naming, the column has its seeds; else it has those of the comparison that needs the most. The search ends at
{MOST_RUNS:,} seeds, or {MOST_FISHER_RUNS} for success rates. In `motion` a seed is a person, and there are
ten. A claim that is not yet run has its planned seeds here.

**More seeds than planned.** Old and new seeds are judged together, though the old ones chose the number, so chance has
more than one try. Where nothing differs, looks at 10, 46, 192 and 454 seeds find a difference in 16% of the cases
instead of 5% (`test_statistics.py`); a verdict near the limit should be checked with new seeds alone. Pattern
generation was extended so: feedforward from 20 to 85 seeds, with noise of 1 and 4 Hz from 10 to 42, at the rate 1e-4
from 10 to 29; recurrent with noise of 1 and 4 Hz from 10 to 46, and then against LIF, which needed the fewest, to 192
and 454. The last needs so many because single runs differ by more than the first 46 had shown. Not all 454 are there
yet. The seeds after the first 46 alone give the same verdict: LIF's error grows less than HetSyn's (209 seeds,
p = 0.015, where Holm's first step asks for 0.017).
"""

PAPER = """### Claims of the paper

Each row cites the figure or table that claims it. Letters mark how our runs differ from the paper's; a verdict is about
our runs.
"""

OURS = """### Questions of this project

These are not claims of the paper. Some ask on other data what the paper asks on its own: the column says after which
figure or table.
"""


def verdict_section(results: Sequence[RunResult]) -> str:
    """The section, from the results of the plan."""
    paper, ours = findings(results, PAPER_CLAIMS), findings(results, OUR_CLAIMS)
    letters = {
        text: chr(ord("a") + i) for i, text in enumerate(dict.fromkeys(c.differs for c in PAPER_CLAIMS if c.differs))
    }
    legend = "".join(f"- {letter}: {text}\n" for text, letter in letters.items())
    return "\n".join(
        (
            in_short(paper, ours),
            RULES,
            PAPER,
            f"{counts(paper)}\n",
            _table("figure, table", ((f, f.claim.source) for f in paper), letters),
            legend,
            OURS,
            f"{counts(ours)}\n",
            _table("after", ((f, f.claim.differs) for f in ours), {}),
        )
    )


def in_short(paper: Sequence[Finding], ours: Sequence[Finding]) -> str:
    """What is decided, for a reader in a hurry: the claims of each verdict, of the paper's and of ours."""
    text = (
        "## In short\n\nA verdict from fewer seeds than planned may still change. In parentheses: the seeds of each "
        "comparison, of those planned.\n\n"
    )
    for title, rows in (("Claims of the paper", paper), ("Questions of this project", ours)):
        early = sum(_is_early(row) for row in rows)
        text += f"**{title}**: {verdict_counts(rows)}; {early} of them from fewer seeds than planned.\n\n"
        text += f"{_by_experiment(rows)}\n"
        for verdict in ("supported", "contradicted", "inconclusive", "ceiling"):
            found = [row for row in rows if row.verdict == verdict]
            text += "".join(
                f"- {verdict}: {row.claim.text}{f' ({row.seeds})' if _is_early(row) else ''}\n" for row in found
            )
            text += "\n" if found else ""
    return text


def _is_early(row: Finding) -> bool:
    """Whether some of the planned seeds are still to come."""
    return " of " in row.seeds


def _by_experiment(rows: Sequence[Finding]) -> str:
    """How often each verdict occurs in each experiment."""
    verdicts = [verdict for verdict in get_args(ClaimVerdict) if any(row.verdict == verdict for row in rows)]
    found: dict[str, list[ClaimVerdict]] = {}
    for row in rows:
        groups = groups_of(row.claim.rule)
        found.setdefault(groups[0].experiment if groups else "data that cannot be had", []).append(row.verdict)
    return table(
        ("experiment", *verdicts),
        ((name, *(str(said.count(verdict) or "") for verdict in verdicts)) for name, said in found.items()),
    )


def verdict_counts(rows: Sequence[Finding]) -> str:
    """How often each verdict occurs."""
    verdicts = [row.verdict for row in rows]
    return ", ".join(
        f"{verdicts.count(verdict)} {verdict}" for verdict in get_args(ClaimVerdict) if verdict in verdicts
    )


def counts(rows: Sequence[Finding]) -> str:
    """How often each verdict occurs, and what the open ones cost."""
    text = verdict_counts(rows)
    hours = sum(row.hours for row in rows)
    if hours:
        text += (
            f".\nThe core hours in the last column add up to {hours:.1f}. Claims share runs, so together they need "
            "less;\nconditions of which no run is finished have no hours yet"
        )
    return f"{text}."


def _cost(row: Finding) -> str:
    """Seeds with their core hours."""
    if not row.hours:
        return row.needed
    return f"{row.needed} ({row.hours:.1f} h)" if row.hours >= 0.1 else f"{row.needed} ({60 * row.hours:.0f} min)"


def _table(place: str, rows: Iterable[tuple[Finding, str]], letters: dict[str, str]) -> str:
    head = (
        *("claim", place, "rule", "seeds", "figures", "difference or mean (interval)", "verdict"),
        *("found with 80% power", "seeds needed"),
    )
    return table(
        head,
        (
            (
                _text(row.claim, letters),
                source,
                describe(row.claim.rule),
                *(row.seeds, row.figures, row.intervals, f"**{row.verdict}**", row.found, _cost(row)),
            )
            for row, source in rows
        ),
    )


def _text(claim: Claim, letters: dict[str, str]) -> str:
    letter = letters.get(claim.differs, "")
    return f"{claim.text} ({letter})" if letter else claim.text
