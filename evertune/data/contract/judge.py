"""The data contract: rows in, accepted rows and refused rows with every reason out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.chunks import Rows, of_table
from evertune.data.contract import label_changes
from evertune.data.contract.batch import SENT, Elsewhere, Verdicts, judge_parts
from evertune.data.contract.chunk import UNREADABLE
from evertune.data.contract.custom import custom_expectations
from evertune.data.contract.frame import KnownInputs, target
from evertune.errors import DataError
from evertune.objectives import module

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SENT", "UNREADABLE", "BatchStoppedError", "Elsewhere", "Verdicts", "custom_expectations", "judge", "judge_rows",
    "label_changes", "stops",
]  # fmt: skip

SHOWN = 3  # rows and reasons that a message shows
FEW = 10  # rows of which nothing is said as a whole
CUT = 80  # characters of a value in a message


class BatchStoppedError(DataError):
    """A batch that is unacceptable as a whole; `verdicts` holds its refused rows, which must not be lost.

    Args:
        summary: the message without any row's text.
    """

    def __init__(self, message: str, verdicts: Verdicts, summary: str) -> None:
        self.verdicts, self.summary = verdicts, summary
        super().__init__(message, verdicts, summary)  # all, or it could not be unpickled

    def __str__(self) -> str:
        return str(self.args[0])


def judge(
    rows: Rows, names: Sequence[str], recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs,
    take: "Callable[[pa.Table], None]", docs_folder: Path | None = None, elsewhere: Elsewhere | None = None,
) -> Verdicts:  # fmt: skip
    """Check a batch, row by row and as a whole.

    Args:
        rows: reads rows from `rows.keyed`; names: of all columns.
        known_labels: the corpus' labels in their order, none before the first batch.
        known_inputs: see `corpus.known_inputs`.
        take: is given the accepted rows, part by part.
        docs_folder: where Data Docs and `result.json` go. Default: none are written.
        elsewhere: where the parts are judged. Default: in this process.
    Raises:
        BatchStoppedError: too many rows are refused, or the batch fails as a whole.
        ConfigError: an expectation of the recipe cannot be checked.
    """
    verdicts = judge_parts(rows, names, recipe, known_labels, known_inputs, take, docs_folder, elsewhere)
    if problems := stops(verdicts, recipe, known_labels):
        summary = _summary(problems, verdicts)
        raise BatchStoppedError(_message(summary, verdicts, recipe), verdicts, "\n".join(summary))
    return verdicts


def stops(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """Why a batch with these verdicts is unacceptable as a whole; empty where it is not."""
    changed = label_changes.stopping(verdicts, recipe)
    return [
        *_share_refused(verdicts, recipe),
        *_numbers(verdicts, recipe),
        *changed,
        *_labels(verdicts, recipe, known_labels),
        *verdicts.problems,
    ]


def judge_rows(table: "pa.Table", recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs) -> Verdicts:
    """Check rows one by one; nothing stops (see `judge`).

    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow as pa

    taken: list[pa.Table] = []
    names = table.column_names
    verdicts = judge_parts(of_table(table), names, recipe, known_labels, known_inputs, taken.append)
    return replace(verdicts, accepted=pa.concat_tables(taken))


def _share_refused(verdicts: Verdicts, recipe: Recipe) -> list[str]:
    count, total = len(verdicts.refused), len(verdicts.refused) + verdicts.rows
    if count <= recipe.contract.tolerance * total:
        return []
    allows = f"contract.tolerance allows {recipe.contract.tolerance:.1%}"
    return [f"the contract refused {count:,} of {total:,} rows ({count / total:.1%}); {allows}"]


def _numbers(verdicts: Verdicts, recipe: Recipe) -> list[str]:
    """A column of numbers where texts should be: the source has changed its columns."""
    if recipe.contract.characters == "keep" or verdicts.rows < FEW or 2 * verdicts.numbers <= verdicts.rows:
        return []
    role = module(recipe.objective.type).INPUTS[0]
    return [
        f"{recipe.column(role)}: {verdicts.numbers:,} of {verdicts.rows:,} texts are bare numbers: has the column "
        f"changed? data.columns.{role} names it; contract.characters: keep takes such texts in"
    ]


def _labels(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """A batch that no model can learn from: no rows, one label only, or nearly so."""
    if not module(recipe.objective.type).LABELED:
        return []
    counts, name = verdicts.labels, recipe.column(target(recipe))
    total = sum(counts.values())
    if not known_labels and not counts:
        return ["no row was accepted; a first batch needs rows of two labels"]
    if len(counts.keys() | set(known_labels)) < 2:
        return [f"{name}: every accepted row has the label {next(iter(counts))!r}; a model needs two labels at least"]
    top, most = max(counts, key=lambda label: counts[label], default=None), recipe.contract.label.max_share
    # in a smaller batch one row of another label could not meet the share either
    if top is None or most == 1 or total < 1 / (1 - most) or counts[top] <= most * total:
        return []
    share = counts[top] / total
    return [f"{name}: {share:.1%} of the labels are {top!r}; contract.label.max_share allows {most:.1%}"]


def _summary(problems: Sequence[str], verdicts: Verdicts) -> list[str]:
    lines = [f"the batch of {len(verdicts.refused) + verdicts.rows:,} rows was stopped, nothing was taken in:"]
    lines += [f"  {problem}" for problem in problems]
    if verdicts.reasons:
        lines.append("refused rows by reason:")
        lines += [f"  {count:6,}  {kind}" for kind, count in list(verdicts.reasons.items())[:10]]
    return lines


def _message(summary: list[str], verdicts: Verdicts, recipe: Recipe) -> str:
    shown = [f"  {_shown(row, recipe)}" for row in _samples(verdicts)]
    advice = (
        "`evertune quarantine RECIPE` lists every refused row; mend the source, or change the contract's "
        "settings that are named here, and run again: all rows are read and judged anew"
    )
    return "\n".join([*summary, *(["such as:", *shown] if verdicts.reasons else []), advice])


def _samples(verdicts: Verdicts) -> list[dict[str, Any]]:
    """Rows to show, of the worst reasons first, each reason once if there are enough."""
    rows = verdicts.refused.slice(0, 10_000).to_pylist()
    first = {kind: row for row in reversed(rows) for kind in row["kinds"]}
    chosen = [first[kind] for kind in verdicts.reasons if kind in first]
    distinct = {row["row_version"]: row for row in [*chosen, *rows]}
    return list(distinct.values())[:SHOWN]


def _shown(row: dict[str, Any], recipe: Recipe) -> str:
    given = module(recipe.objective.type).INPUTS[0]
    value = repr(row[given])
    cut = value if len(value) <= CUT else f"{value[:CUT]}..."
    seen = "" if row[given] is None else f" | {cut}"
    return f"{row['source']}, row {row['source_row']}: {'; '.join(row['reasons'])}{seen}"
