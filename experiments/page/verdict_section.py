"""The report's section of verdicts: the rules in words, the paper's claims, and our own questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from experiments.claims.our_claims import OUR_CLAIMS
from experiments.claims.paper_claims import PAPER_CLAIMS
from experiments.claims.relations import ClaimVerdict
from experiments.claims.rules import CEILING, MIN_SEEDS, SAME_FACTOR, SAME_POINTS, SUCCESS, Claim, describe
from experiments.claims.statistics import ALPHA, MOST_FISHER_RUNS, MOST_RUNS, POWER
from experiments.claims.tables import table
from experiments.claims.verdicts import Finding, findings
from experiments.runs.results import RunResult

RULES = f"""## Verdicts

`paper_claims.py`, `our_claims.py` and others in `experiments/claims/` have the rules, so that they stand before the
runs. Those of pattern generation, delayed match, `motion`, `mnist1d`, delays, kernels and resonance did; whoever wrote
those of the first two knew the figures of short earlier runs. The rule on how errors grow with noise is younger than
the first runs of pattern generation, and older than those with other noise. The other runs are older than the rules.

**Seeds.** Two groups are compared seed by seed, over the seeds that both have: a seed gives every model the same
target trace, or the same person to leave out. A claim needs {MIN_SEEDS} seeds of each group. Where its comparisons have
different numbers of seeds, the column names each, in their order. A figure is then over the most seeds that one of its
comparisons has, so figures need not subtract to the differences.

**Differences** are the first group minus the other one, in points of accuracy or in updates saved. "Better, three
comparisons" is HetSyn against each of the others, or each model against the next. Errors and time constants are
compared as logarithms, so a difference is a factor, above 1 if the first group is better: "HetNeu x 4.9" means that
HetNeu has 4.9 times the error. How much an error grows with noise is compared as it is, as in the paper's figure: as a
factor, the smallest error would grow the most. In parentheses is Student's t interval. The comparisons of a claim share
an error of {ALPHA:.0%} by Holm's procedure, and each interval has the level of its step: {1 - ALPHA / 3:.1%} for the
first of three, {1 - ALPHA:.0%} for a single one.
An accuracy is never taken to be more precise than one test stream, nor a number of updates more than the time between
two evaluations. A run that never reaches an accuracy counts as one evaluation longer than it was, and two that never
do are not the same.

**Success rates** (runs with an accuracy of {SUCCESS:.0%} or more) are compared by Fisher's exact test, as twice its
one-sided p, with the exact interval of the odds ratio: above 1 means that the first group succeeds more often.
Percentages in parentheses are Wilson's 95% intervals.

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

**Seeds needed** are the seeds in all for {POWER:.0%} power in each comparison that is not decided, if the effect is as
seen here (for three comparisons at {ALPHA / 3:.1%}), with the core hours for all models. The search ends at
{MOST_RUNS:,} seeds, or {MOST_FISHER_RUNS} for success rates. An effect seen with three seeds is itself uncertain. For
speech and motion, a seed is a person, and the data has five and ten. A comparison that hardly differs is decided too
once the two groups are the same within the margin: the fewer seeds count. Where too little has run, the planned seeds
stand. Old and new seeds are judged together, though the old ones chose the number. In simulations without any effect,
one such extension of three or five seeds to at most 50 finds one in 11 to 12% of the cases, not in 5%. So a verdict
near the limit after an extension needs new seeds alone. The numbers of seeds of pattern generation and delayed match
were at first fixed before the runs. Three claims were then extended once: feedforward pattern generation to 85 seeds,
feedforward delayed match to 44, noise from 1 to 4 Hz with recurrence to 46. The last was still open, and was extended
again in the comparison that needed the fewest seeds, with LIF, to 192: a claim of several comparisons falls with one.
It stayed open, because single runs differed by more than the first 46 had shown.
Without any effect, looks at 10, 46 and 192 seeds find one in 13% of the cases, not in 5% (`test_statistics.py`).
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
        '## In short\n\nA verdict from fewer seeds than planned is not final: the tables say so, as in "3 of 20".\n\n'
    )
    for title, rows in (("Claims of the paper", paper), ("Questions of this project", ours)):
        text += f"**{title}**: {verdict_counts(rows)}.\n\n"
        for verdict in ("supported", "contradicted", "ceiling"):
            found = [row.claim.text for row in rows if row.verdict == verdict]
            text += "".join(f"- {verdict}: {claim}\n" for claim in found) + ("\n" if found else "")
    return text


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
    head = ("claim", place, "rule", "seeds", "figures", "difference or mean (interval)", "verdict", "seeds needed")
    return table(
        head,
        (
            (
                _text(row.claim, letters),
                source,
                describe(row.claim.rule),
                *(row.seeds, row.figures, row.intervals, f"**{row.verdict}**", _cost(row)),
            )
            for row, source in rows
        ),
    )


def _text(claim: Claim, letters: dict[str, str]) -> str:
    letter = letters.get(claim.differs, "")
    return f"{claim.text} ({letter})" if letter else claim.text
