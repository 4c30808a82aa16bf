"""A first look at a recipe's rows: contract, labels, tokens; nothing is kept and nothing is trained."""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from evertune.config import SqlSource
from evertune.data import label_names as relabel
from evertune.data import minimum_rows as shortage
from evertune.data.contract import judge as contract
from evertune.data.splits import assign as splits
from evertune.data.thumbnails import told
from evertune.errors import DataError
from evertune.models import base as base_models
from evertune.objectives import cells, module, no_shares
from evertune.profiling.preview_rows import judged, sample, spread
from evertune.statistics.paired_tests import detectable
from evertune.statistics.resampling import spend
from evertune.tokenization import tokenize as tokenization

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

SHOWN = 3
CLOSELY = 2000  # accepted rows, evenly spaced, whose tokens and splits are looked at
CUT = 160  # characters of an example


@dataclass(frozen=True)
class Preview:
    """What `look` found.

    Args:
        rows: that were looked at, of `found` in the pieces that were opened.
        labels: label or tag -> accepted rows (words) with it, most frequent first.
        examples: `input`, `target` and `tokens` of some rows.
        splits: split -> rows, as a first run would deal them; estimated where not all rows were looked at.
        leaked: test rows that stand in or near train rows, among those that were looked at closely.
        truncated: rows longer than the model sees, estimated likewise.
        problems: why a run would stop.
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


def look(recipe: "Recipe", limit: int) -> Preview:
    """Judge about `limit` rows, evenly spaced over all sources, as a run would.

    Raises:
        ConfigError: the recipe's expectations, columns or tokenizer do not fit.
        DataError: a source cannot be read, or holds no row that can.
    """
    contract.custom_expectations(recipe.contract)
    rows = sample(recipe, limit)
    verdicts = judged(rows, recipe)
    unreadable = _unreadable(verdicts)
    if unreadable and len(unreadable) == len(rows.table):
        raise DataError(f"no row can be read; {unreadable[0]}")
    objective = module(recipe.objective.type)
    target = objective.TARGET
    close = spread(verdicts.accepted, CLOSELY)
    factor = rows.found * len(verdicts.accepted) / len(rows.table) / max(1, len(close))
    dealt, leaked = _splits(close, recipe, objective.INPUTS[0])
    splits = {name: round(count * factor) for name, count in dealt.items()}
    inputs, targets = cells(close, objective.INPUTS), cells(close, [target])
    own = hasattr(objective, "tokenizer")
    pieces, truncated = _own_tokens(recipe, close.slice(0, SHOWN)) if own else _tokens(recipe, inputs)
    examples = _examples(objective, inputs, targets, pieces)
    problems = [*contract.stops(verdicts, recipe, ()), *(shortage.missing(splits) if len(close) else [])]
    labels = _labels(verdicts, objective)
    notes = [
        *(f"cannot be read: {one}" for one in unreadable[:SHOWN]),
        *rows.notes,
        *verdicts.warnings,
        *shortage.warnings(splits, recipe),
        *_notes(recipe, splits["test"]),
        *_strangers(recipe, labels),
    ]
    return Preview(
        rows=len(rows.table), found=rows.found, accepted=len(verdicts.accepted), reasons=verdicts.reasons,
        labels=labels, examples=examples, splits=splits, leaked=leaked, truncated=round(truncated * factor),
        problems=problems, notes=notes,
    )  # fmt: skip


def _examples(objective: Any, inputs: list[Any], targets: list[Any], pieces: list[list[str]]) -> list[dict[str, str]]:
    shown, wanted = (
        told if objective.COLUMNS[role] == "image" else _text for role in (objective.INPUTS[0], objective.TARGET)
    )
    seen_again = objective.TARGET in objective.INPUTS
    return [
        {"input": shown(one), "target": "" if seen_again else wanted(target), "tokens": " ".join(tokens[:24])}
        for one, target, tokens in islice(zip(inputs, targets, pieces, strict=False), SHOWN)
    ]


def _labels(verdicts: contract.Verdicts, objective: Any) -> dict[str, int]:
    if not objective.LABELED:
        return {}
    return dict(Counter(objective.label_values(verdicts.accepted.column(objective.TARGET).to_pylist())).most_common())


def _strangers(recipe: "Recipe", labels: Collection[str]) -> list[str]:
    """What the test of negation calls a label and none of these rows has, under the names of today."""
    rule, known = recipe.evaluation.robustness, relabel.names([*labels], recipe.contract.label.rename)
    unknown = [] if rule is None else rule.strangers(known)
    return [f"evaluation.robustness.opposites: no row has the label {one}; is it mistyped?" for one in unknown]


def _unreadable(verdicts: contract.Verdicts) -> list[str]:
    """Where each row stands that could not be read, and why."""
    rows = verdicts.refused.select(["source", "reasons", "kinds"]).to_pylist()
    return [f"{row['source']}, {row['reasons'][0]}" for row in rows if row["kinds"] == [contract.UNREADABLE]]


def _splits(accepted: "pa.Table", recipe: "Recipe", role: str) -> tuple[dict[str, int], int]:
    """How many rows each split would get in an empty corpus, and how many test rows would leak."""
    import pyarrow as pa

    strings = dict.fromkeys(splits.KNOWN, pa.string())
    numbers = {"component": pa.int64(), "joins": pa.list_(pa.int64()), "normal_digest": pa.int64()}
    known = pa.schema([*{**strings, **numbers, "signature": pa.binary()}.items()]).empty_table()
    nothing = accepted[role].slice(0, 0)
    lend = splits.lends_validation(recipe)
    dealt = splits.assign(accepted, known, recipe.data.split, role, lambda _: nothing, lend)
    names = dealt["split"].to_pylist()
    return {name: names.count(name) for name in splits.NAMES}, len(splits.leaked(dealt))


def _tokens(recipe: "Recipe", inputs: list[Any]) -> tuple[list[list[str]], int]:
    # The tokenizer's own file, read without transformers: the whole check stays under a few seconds.
    from pathlib import Path

    from tokenizers import Tokenizer

    file = Path(base_models.locate(recipe)) / "tokenizer.json"
    if not file.is_file():
        return [[] for _ in inputs[:SHOWN]], 0
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch(inputs, is_pretokenized=bool(inputs) and isinstance(inputs[0], list))
    longest = math.inf if hasattr(module(recipe.objective.type), "IN_BLOCKS") else recipe.objective.max_length
    return [one.tokens for one in encoded[:SHOWN]], sum(len(one.ids) > longest for one in encoded)


def _own_tokens(recipe: "Recipe", rows: "pa.Table") -> tuple[list[list[str]], int]:
    """How many tokens the objective itself makes of each row; that it can is the check."""
    return [[f"{length:,}"] for length in tokenization.encoded(recipe, rows)["full_length"]], 0


def _notes(recipe: "Recipe", test: int) -> list[str]:
    notes = []
    objective = module(recipe.objective.type)
    if test and recipe.metric not in {*objective.LOWER_IS_BETTER, *no_shares(objective)}:
        least = detectable(test, spend(1 - recipe.evaluation.gate.confidence, 1))
        notes.append(
            f"{test:,} fresh test rows can show a difference of {100 * least:.1f} points (power 0.8, one row in ten "
            "decided differently)"
        )
    if "id" not in recipe.data.columns and objective.LABELED:
        notes.append(
            "columns.id is not mapped: a corrected label cannot supersede its row; one text with two labels is refused"
        )
    for number, source in enumerate(recipe.data.sources):
        if isinstance(source, SqlSource) and source.cursor is None:
            notes.append(f"data.sources.{number}: no cursor, so the query is scanned whole at every run")
    return notes


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " | ".join(map(_text, value))
    text = value if isinstance(value, str) else " ".join(value)
    return text if len(text) <= CUT else text[: CUT - 1] + "…"
