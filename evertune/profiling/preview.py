"""Preview a recipe's rows: contract, labels, splits, tokens. Nothing is stored and nothing is trained."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast

from evertune.config import Gate, SqlSource
from evertune.data import label_names, minimum_rows
from evertune.data.contract import judge
from evertune.data.splits import assign
from evertune.data.thumbnails import describe_picture
from evertune.errors import DataError
from evertune.models import base as base_models
from evertune.objectives import Cell, Input, Objective, extract_cells, load_objective
from evertune.profiling.preview_rows import judge_sample, sample_rows, spread_rows
from evertune.statistics.expected_gain import level_of_caution
from evertune.statistics.paired_tests import share_detectable
from evertune.statistics.resampling import spend_alpha
from evertune.tokenization import tokenize

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

SHOWN = 3
CLOSE_ROWS = 2000  # accepted rows, evenly spaced, that are tokenized and split
CUT = 160  # characters of an example


@dataclass(frozen=True)
class Preview:
    """What `preview_recipe` found.

    Args:
        rows: rows sampled.
        found: rows in all files or other pieces that were opened.
        accepted: sampled rows that the contract accepts.
        reasons: reason -> refused rows.
        labels: label or tag -> accepted rows (words) with it, most frequent first.
        examples: `input`, `target` and `tokens` of some rows.
        splits: split -> rows in a first run; estimated where not all rows were sampled.
        leaked: test rows that are copies or near-duplicates of train rows, among `CLOSE_ROWS` rows.
        truncated: rows longer than the model sees; estimated likewise.
        problems: why a run would stop.
        notes: what else a person should know.
    """

    rows: int
    found: int
    accepted: int
    reasons: dict[str, int]
    labels: dict[str, int]
    examples: list[dict[str, str]]
    splits: dict[str, int]
    leaked: int
    truncated: int
    problems: list[str]
    notes: list[str]


def preview_recipe(recipe: "Recipe", limit: int) -> Preview:
    """Put about `limit` rows, evenly spaced over all sources, through the contract as a run would.

    Raises:
        ConfigError: the recipe's expectations, columns or tokenizer do not fit.
        DataError: a source cannot be read, or none of its rows can.
    """
    judge.custom_expectations(recipe.contract)
    rows = sample_rows(recipe, limit)
    verdicts = judge_sample(rows, recipe)
    unreadable = _list_unreadable(verdicts)
    if unreadable and len(unreadable) == len(rows.table):
        raise DataError(f"no row can be read; {unreadable[0]}")
    objective = load_objective(recipe.objective.type)
    target = objective.TARGET
    close_rows = spread_rows(verdicts.accepted, CLOSE_ROWS)
    factor = rows.found * len(verdicts.accepted) / len(rows.table) / max(1, len(close_rows))
    split_counts, leaked = _estimate_splits(close_rows, recipe, objective.INPUTS[0])
    splits = {name: round(count * factor) for name, count in split_counts.items()}
    inputs = extract_cells(close_rows, objective.INPUTS)
    targets = extract_cells(close_rows, [target])
    has_own_tokenizer = objective.has_own_tokenizer
    if has_own_tokenizer:
        pieces, truncated = _count_own_tokens(recipe, close_rows.slice(0, SHOWN))
    else:
        pieces, truncated = _tokenize_inputs(recipe, inputs)
    examples = _make_examples(objective, inputs, targets, pieces)
    problems = [
        *judge.find_stop_reasons(verdicts, recipe, ()),
        *(minimum_rows.list_missing_splits(splits) if len(close_rows) else []),
    ]
    labels = _count_labels(verdicts, objective)
    notes = [
        *(f"cannot be read: {message}" for message in unreadable[:SHOWN]),
        *rows.notes,
        *verdicts.warnings,
        *minimum_rows.list_warnings(splits, recipe),
        *_make_notes(recipe, splits["test"]),
        *_report_unknown_labels(recipe, labels),
    ]
    return Preview(
        rows=len(rows.table),
        found=rows.found,
        accepted=len(verdicts.accepted),
        reasons=verdicts.reasons,
        labels=labels,
        examples=examples,
        splits=splits,
        leaked=leaked,
        truncated=round(truncated * factor),
        problems=problems,
        notes=notes,
    )


def _make_examples(
    objective: Objective, inputs: Sequence[Input], targets: Sequence[Cell], pieces: list[list[str]]
) -> list[dict[str, str]]:
    show_input, show_target = (
        cast("Callable[[Input], str]", describe_picture) if objective.COLUMNS[role] == "image" else _shorten_text
        for role in (objective.INPUTS[0], objective.TARGET)
    )
    seen_again = objective.TARGET in objective.INPUTS
    return [
        {
            "input": show_input(value),
            "target": "" if seen_again else show_target(target),
            "tokens": " ".join(tokens[:24]),
        }
        for value, target, tokens in islice(zip(inputs, targets, pieces, strict=False), SHOWN)
    ]


def _count_labels(verdicts: judge.Verdicts, objective: Objective) -> dict[str, int]:
    if not objective.LABELED:
        return {}
    return dict(Counter(objective.list_labels(verdicts.accepted.column(objective.TARGET).to_pylist())).most_common())


def _report_unknown_labels(recipe: "Recipe", labels: Collection[str]) -> list[str]:
    """Name the labels in `evaluation.robustness.opposites` that no row has, after renaming."""
    rule = recipe.evaluation.robustness
    current_labels = label_names.rename_labels([*labels], recipe.contract.label.rename)
    unknown = [] if rule is None else rule.find_unknown_labels(current_labels)
    return [f"evaluation.robustness.opposites: no row has the label {label}; check its spelling" for label in unknown]


def _list_unreadable(verdicts: judge.Verdicts) -> list[str]:
    """Source and reason of each row that cannot be read."""
    rows = verdicts.refused.select(["source", "reasons", "kinds"]).to_pylist()
    return [f"{row['source']}, {row['reasons'][0]}" for row in rows if row["kinds"] == [judge.UNREADABLE]]


def _estimate_splits(accepted: "pa.Table", recipe: "Recipe", role: str) -> tuple[dict[str, int], int]:
    """Count the rows of each split in a new corpus, and the test rows that would leak."""
    import pyarrow as pa

    strings = dict.fromkeys(assign.KNOWN, pa.string())
    numbers = {"component": pa.int64(), "joins": pa.list_(pa.int64()), "normal_digest": pa.int64()}
    empty_corpus = pa.schema([*{**strings, **numbers, "signature": pa.binary()}.items()]).empty_table()
    no_rows = accepted[role].slice(0, 0)
    lends_validation = assign.lends_validation(recipe)
    assigned = assign.split_rows(accepted, empty_corpus, recipe.data.split, role, lambda _: no_rows, lends_validation)
    names = assigned["split"].to_pylist()
    return {name: names.count(name) for name in assign.NAMES}, len(assign.find_leaked_rows(assigned))


def _tokenize_inputs(recipe: "Recipe", inputs: Sequence[Input]) -> tuple[list[list[str]], int]:
    # The tokenizer's file is read without transformers, so that `check` takes only seconds.
    from pathlib import Path

    from tokenizers import Tokenizer

    file = Path(base_models.locate_base(recipe)) / "tokenizer.json"
    if not file.is_file():
        return [[] for _ in inputs[:SHOWN]], 0
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch(inputs, is_pretokenized=bool(inputs) and isinstance(inputs[0], list))
    longest = math.inf if load_objective(recipe.objective.type).IN_BLOCKS else recipe.objective.max_length
    return [encoding.tokens for encoding in encoded[:SHOWN]], sum(len(encoding.ids) > longest for encoding in encoded)


def _count_own_tokens(recipe: "Recipe", rows: "pa.Table") -> tuple[list[list[str]], int]:
    """Count the tokens that the objective makes of each row; an error here is what the check is for."""
    return [[f"{length:,}"] for length in tokenize.encode_rows(recipe, rows)["full_length"]], 0


def _choose_level(gate: Gate) -> float:
    """Return the level of a first challenge under the recipe's rule."""
    if gate.rule_name == "expected":
        return level_of_caution(gate.caution)
    return spend_alpha(1 - gate.confidence, 1)


def _make_notes(recipe: "Recipe", test: int) -> list[str]:
    notes = []
    objective = load_objective(recipe.objective.type)
    if test and recipe.metric not in {*objective.LOWER_IS_BETTER, *objective.ABSOLUTE_METRICS}:
        least = share_detectable(test, _choose_level(recipe.evaluation.gate))
        notes.append(
            f"with {test:,} test rows the gate can detect gains of {100 * least:.1f} points or more (80% power, if the "
            "models disagree on 10% of rows)"
        )
    if "id" not in recipe.data.columns and objective.LABELED:
        notes.append(
            "data.columns.id is not mapped: a corrected label cannot replace the old one; a text with two labels is "
            "refused"
        )
    for number, source in enumerate(recipe.data.sources):
        if isinstance(source, SqlSource) and source.cursor is None:
            notes.append(f"data.sources.{number}: no cursor, so every run reads the whole query result")
    return notes


def _shorten_text(value: Input) -> str:
    if isinstance(value, tuple):
        return " | ".join(map(_shorten_text, value))
    text = value if isinstance(value, str) else " ".join(value)
    return text if len(text) <= CUT else text[: CUT - 1] + "…"
