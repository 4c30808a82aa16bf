"""Check a batch against the data contract: accepted rows, refused rows with every reason, or a stop of the batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

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

SHOWN = 3  # example rows that a message shows
FEW = 10  # accepted rows below which bare numbers do not stop a batch
CUT = 80  # characters of a value in a message


class BatchStoppedError(DataError):
    """A batch is unacceptable as a whole; `verdicts` holds its refused rows, which must not be lost.

    Args:
        message: what a person reads.
        verdicts: of the batch.
        summary: the message without any row's text.
    """

    def __init__(self, message: str, verdicts: Verdicts, summary: str) -> None:
        self.verdicts = verdicts
        self.summary = summary
        super().__init__(message, verdicts, summary)  # pickling needs all arguments

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
        rows: reads rows from `row_versions.add_keys`.
        names: all their columns.
        recipe: has the contract.
        known_labels: the corpus' labels in their order; empty before the first batch.
        known_inputs: see `corpus.read.known_inputs`.
        on_accepted: is called with the accepted rows, chunk by chunk.
        docs_folder: where Data Docs and `result.json` go. Default: none are written.
        workers: check the chunks elsewhere. Default: in this process.
    Raises:
        BatchStoppedError: too many rows are refused, or the batch fails as a whole.
        ConfigError: an expectation of the recipe cannot be checked.
    """
    verdicts = check_chunks(rows, names, recipe, known_labels, known_inputs, on_accepted, docs_folder, workers)
    problems = find_stop_reasons(verdicts, recipe, known_labels)
    if problems:
        summary = _summarize_problems(problems, verdicts)
        raise BatchStoppedError(_format_message(summary, verdicts, recipe), verdicts, "\n".join(summary))
    return verdicts


def find_stop_reasons(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """Return why a batch with these verdicts is unacceptable as a whole; empty if it is acceptable."""
    return [
        *_check_refused_share(verdicts, recipe),
        *_check_bare_numbers(verdicts, recipe),
        *label_changes.explain_unknown_labels(verdicts, recipe),
        *_check_labels(verdicts, recipe, known_labels),
        *verdicts.problems,
    ]


def check_rows(table: "pa.Table", recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs) -> Verdicts:
    """Check rows one by one, without stopping the batch as a whole.

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
    """Find a column of numbers where texts should be, as when a source changes its columns."""
    if recipe.contract.characters == "keep" or verdicts.rows < FEW or 2 * verdicts.numbers <= verdicts.rows:
        return []
    role = load_objective(recipe.objective.type).INPUTS[0]
    return [
        f"{recipe.column(role)}: {verdicts.numbers:,} of {verdicts.rows:,} texts are bare numbers. If the source "
        f"changed its columns, correct data.columns.{role}; if the texts are right, set contract.characters: keep"
    ]


def _check_labels(verdicts: Verdicts, recipe: Recipe, known_labels: tuple[str, ...]) -> list[str]:
    """Find a batch that no model can learn from: no rows, or (nearly) all rows with the same label."""
    if not load_objective(recipe.objective.type).LABELED:
        return []
    counts = verdicts.labels
    name = recipe.column(get_target_role(recipe))
    total = sum(counts.values())
    if not known_labels and not counts:
        return ["no row was accepted; a first batch needs rows with at least two labels"]
    if len(counts.keys() | set(known_labels)) < 2:
        return [f"{name}: every accepted row has the label {next(iter(counts))!r}; a model needs at least two labels"]
    top = max(counts, key=lambda label: counts[label], default=None)
    max_share = recipe.contract.label.max_share
    # In a smaller batch even one row with another label would not meet the share.
    if top is None or max_share == 1 or total < 1 / (1 - max_share) or counts[top] <= max_share * total:
        return []
    share = counts[top] / total
    return [f"{name}: {share:.1%} of the labels are {top!r}; contract.label.max_share allows {max_share:.1%}"]


def _summarize_problems(problems: Sequence[str], verdicts: Verdicts) -> list[str]:
    lines = [f"the contract stopped the batch of {len(verdicts.refused) + verdicts.rows:,} rows; nothing was ingested:"]
    lines += [f"  {problem}" for problem in problems]
    if verdicts.reasons:
        lines.append("refused rows by reason:")
        lines += [f"  {count:6,}  {kind}" for kind, count in list(verdicts.reasons.items())[:10]]
    return lines


def _format_message(summary: list[str], verdicts: Verdicts, recipe: Recipe) -> str:
    lines = list(summary)
    if verdicts.reasons:
        lines.append("examples:")
        lines += [f"  {_format_row(row, recipe)}" for row in _choose_examples(verdicts)]
    lines.append(
        "`evertune quarantine RECIPE` lists every refused row. Correct the source, or change the settings named above, "
        "and run again; all rows will be read and checked again"
    )
    return "\n".join(lines)


def _choose_examples(verdicts: Verdicts) -> list[dict[str, object]]:
    """Return rows to show: the most frequent reasons first, each once if possible."""
    rows = verdicts.refused.slice(0, 10_000).to_pylist()
    first = {kind: row for row in reversed(rows) for kind in row["kinds"]}
    chosen = [first[kind] for kind in verdicts.reasons if kind in first]
    distinct = {row["row_version"]: row for row in [*chosen, *rows]}
    return list(distinct.values())[:SHOWN]


def _format_row(row: Mapping[str, object], recipe: Recipe) -> str:
    reasons = cast("list[str]", row["reasons"])
    description = f"{row['source']}, row {row['source_row']}: {'; '.join(reasons)}"
    value = row[load_objective(recipe.objective.type).INPUTS[0]]
    if value is None:
        return description
    text = repr(value)
    shortened = text if len(text) <= CUT else f"{text[:CUT]}..."
    return f"{description} | {shortened}"
