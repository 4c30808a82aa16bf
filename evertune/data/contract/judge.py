"""The data contract: rows in, accepted rows and refused rows with every reason out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.chunks import RowReader, make_row_reader
from evertune.data.contract import label_changes
from evertune.data.contract.batch import SENT, RemoteWorkers, Verdicts, check_chunks
from evertune.data.contract.chunk import UNREADABLE
from evertune.data.contract.custom import custom_expectations
from evertune.data.contract.frame import KnownInputs, get_target_role
from evertune.errors import DataError
from evertune.objectives import load_objective

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SENT",
    "UNREADABLE",
    "BatchStoppedError",
    "RemoteWorkers",
    "Verdicts",
    "check_batch",
    "check_rows",
    "custom_expectations",
    "find_stop_reasons",
    "label_changes",
]

SHOWN = 3  # rows and reasons that a message shows
FEW = 10  # rows of which nothing is said as a whole
CUT = 80  # characters of a value in a message


class BatchStoppedError(DataError):
    """A batch that is unacceptable as a whole; `verdicts` holds its refused rows, which must not be lost.

    Args:
        summary: the message without any row's text.
    """

    def __init__(self, message: str, verdicts: Verdicts, summary: str) -> None:
        self.verdicts = verdicts
        self.summary = summary
        super().__init__(message, verdicts, summary)  # all, or it could not be unpickled

    def __str__(self) -> str:
        return str(self.args[0])


def check_batch(
    rows: RowReader,
    names: Sequence[str],
    recipe: Recipe,
    known_labels: tuple[str, ...],
    known_inputs: KnownInputs,
    on_accepted: "Callable[[pa.Table], None]",
    docs_folder: Path | None = None,
    workers: RemoteWorkers | None = None,
) -> Verdicts:
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
    verdicts = check_chunks(rows, names, recipe, known_labels, known_inputs, on_accepted, docs_folder, workers)
    if problems := find_stop_reasons(verdicts, recipe, known_labels):
        summary = _summarize_problems(problems, verdicts)
        raise BatchStoppedError(_format_message(summary, verdicts, recipe), verdicts, "\n".join(summary))
    return verdicts


def find_stop_reasons(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """Why a batch with these verdicts is unacceptable as a whole; empty where it is not."""
    label_problems = label_changes.explain_unknown_labels(verdicts, recipe)
    return [
        *_check_refused_share(verdicts, recipe),
        *_check_bare_numbers(verdicts, recipe),
        *label_problems,
        *_check_labels(verdicts, recipe, known_labels),
        *verdicts.problems,
    ]


def check_rows(table: "pa.Table", recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs) -> Verdicts:
    """Check rows one by one; nothing stops (see `judge`).

    Raises:
        ConfigError: an expectation of the recipe cannot be checked.
    """
    import pyarrow as pa

    accepted_chunks: list[pa.Table] = []
    names = table.column_names
    verdicts = check_chunks(make_row_reader(table), names, recipe, known_labels, known_inputs, accepted_chunks.append)
    return replace(verdicts, accepted=pa.concat_tables(accepted_chunks))


def _check_refused_share(verdicts: Verdicts, recipe: Recipe) -> list[str]:
    count = len(verdicts.refused)
    total = len(verdicts.refused) + verdicts.rows
    if count <= recipe.contract.tolerance * total:
        return []
    limit = f"contract.tolerance allows {recipe.contract.tolerance:.1%}"
    return [f"the contract refused {count:,} of {total:,} rows ({count / total:.1%}); {limit}"]


def _check_bare_numbers(verdicts: Verdicts, recipe: Recipe) -> list[str]:
    """A column of numbers where texts should be: the source has changed its columns."""
    if recipe.contract.characters == "keep" or verdicts.rows < FEW or 2 * verdicts.numbers <= verdicts.rows:
        return []
    role = load_objective(recipe.objective.type).INPUTS[0]
    return [
        f"{recipe.column(role)}: {verdicts.numbers:,} of {verdicts.rows:,} texts are bare numbers: has the column "
        f"changed? data.columns.{role} names it; contract.characters: keep takes such texts in"
    ]


def _check_labels(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """A batch that no model can learn from: no rows, one label only, or nearly so."""
    if not load_objective(recipe.objective.type).LABELED:
        return []
    counts = verdicts.labels
    name = recipe.column(get_target_role(recipe))
    total = sum(counts.values())
    if not known_labels and not counts:
        return ["no row was accepted; a first batch needs rows of two labels"]
    if len(counts.keys() | set(known_labels)) < 2:
        return [f"{name}: every accepted row has the label {next(iter(counts))!r}; a model needs two labels at least"]
    top = max(counts, key=lambda label: counts[label], default=None)
    max_share = recipe.contract.label.max_share
    # in a smaller batch one row of another label could not meet the share either
    if top is None or max_share == 1 or total < 1 / (1 - max_share) or counts[top] <= max_share * total:
        return []
    share = counts[top] / total
    return [f"{name}: {share:.1%} of the labels are {top!r}; contract.label.max_share allows {max_share:.1%}"]


def _summarize_problems(problems: Sequence[str], verdicts: Verdicts) -> list[str]:
    lines = [f"the batch of {len(verdicts.refused) + verdicts.rows:,} rows was stopped, nothing was taken in:"]
    lines += [f"  {problem}" for problem in problems]
    if verdicts.reasons:
        lines.append("refused rows by reason:")
        lines += [f"  {count:6,}  {kind}" for kind, count in list(verdicts.reasons.items())[:10]]
    return lines


def _format_message(summary: list[str], verdicts: Verdicts, recipe: Recipe) -> str:
    examples = [f"  {_format_row(row, recipe)}" for row in _choose_examples(verdicts)]
    advice = (
        "`evertune quarantine RECIPE` lists every refused row; mend the source, or change the contract's "
        "settings that are named here, and run again: all rows are read and judged anew"
    )
    return "\n".join([*summary, *(["such as:", *examples] if verdicts.reasons else []), advice])


def _choose_examples(verdicts: Verdicts) -> list[dict[str, Any]]:
    """Rows to show, of the worst reasons first, each reason once if there are enough."""
    rows = verdicts.refused.slice(0, 10_000).to_pylist()
    first = {kind: row for row in reversed(rows) for kind in row["kinds"]}
    chosen = [first[kind] for kind in verdicts.reasons if kind in first]
    distinct = {row["row_version"]: row for row in [*chosen, *rows]}
    return list(distinct.values())[:SHOWN]


def _format_row(row: dict[str, Any], recipe: Recipe) -> str:
    input_role = load_objective(recipe.objective.type).INPUTS[0]
    value = repr(row[input_role])
    shortened = value if len(value) <= CUT else f"{value[:CUT]}..."
    input_text = "" if row[input_role] is None else f" | {shortened}"
    return f"{row['source']}, row {row['source_row']}: {'; '.join(row['reasons'])}{input_text}"
