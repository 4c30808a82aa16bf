"""A first look at a recipe's rows: contract, labels, tokens; nothing is kept and nothing is trained."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from evertune import base_models, contract, sources
from evertune.config import SqlSource
from evertune.errors import DataError
from evertune.objectives import module
from evertune.rows import keyed
from evertune.statistics import detectable, spend

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

SHOWN = 3
CUT = 160  # characters of an example


@dataclass(frozen=True)
class Preview:
    """What `look` found.

    Args:
        labels: label or tag -> accepted rows (words) with it, most frequent first, 20 at most.
        examples: `input`, `target` and `tokens` of some rows.
        truncated: rows longer than the model sees.
    """

    rows: int
    accepted: int
    reasons: dict[str, int]
    labels: dict[str, int]
    examples: list[dict[str, str]]
    truncated: int
    notes: list[str]


def look(recipe: "Recipe", limit: int) -> Preview:
    """Read up to `limit` rows of each source's first piece and judge them.

    Raises:
        ConfigError: the recipe's expectations, columns or tokenizer do not fit.
        DataError: a source cannot be read, or holds no row that can.
    """
    import pyarrow as pa

    contract.custom_expectations(recipe.contract)
    table = keyed(_sample(recipe, limit), recipe)
    nothing = pa.table({"input_digest": pa.array([], pa.int64()), "target_digest": pa.array([], pa.int64())})
    verdicts = contract.judge_rows(table, recipe, (), lambda _: nothing)
    unreadable = _unreadable(verdicts)
    if unreadable and len(unreadable) == len(table):
        raise DataError(f"no row can be read; {unreadable[0]}")
    objective = module(recipe.objective.type)
    role, target = objective.COLUMNS
    accepted = verdicts.accepted
    inputs, targets = accepted.column(role).to_pylist(), accepted.column(target).to_pylist()
    pieces, truncated = _tokens(recipe, inputs)
    examples = [
        {"input": _text(one), "target": _text(wanted), "tokens": " ".join(tokens[:24])}
        for one, wanted, tokens in islice(zip(inputs, targets, pieces, strict=False), SHOWN)
    ]
    return Preview(
        rows=len(table), accepted=len(accepted), reasons=verdicts.reasons,
        labels=dict(Counter(objective.label_values(targets)).most_common(20)), examples=examples, truncated=truncated,
        notes=[
            *(f"cannot be read: {one}" for one in unreadable[:SHOWN]),
            *verdicts.warnings, *verdicts.problems, *_notes(recipe, len(accepted)),
        ],
    )  # fmt: skip


def _unreadable(verdicts: contract.Verdicts) -> list[str]:
    """Where each row stands that could not be read, and why."""
    rows = verdicts.refused.select(["source", "reasons", "kinds"]).to_pylist()
    return [f"{row['source']}, {row['reasons'][0]}" for row in rows if row["kinds"] == [contract.UNREADABLE]]


def _sample(recipe: "Recipe", limit: int) -> "pa.Table":
    import pyarrow as pa

    pieces = list(islice(sources.read(recipe, {}), 8))
    tables = [piece.table.slice(0, limit) for piece in pieces]
    if not any(map(len, tables)):
        read = ", ".join(piece.uri for piece in pieces) or "nothing to read"
        raise DataError(f"the sources hold no rows ({read}); add some")
    return pa.concat_tables(tables, promote_options="permissive").slice(0, limit)


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
    encoded = tokenizer.encode_batch(inputs, is_pretokenized=bool(inputs) and not isinstance(inputs[0], str))
    return [one.tokens for one in encoded[:SHOWN]], sum(len(one.ids) > recipe.objective.max_length for one in encoded)


def _notes(recipe: "Recipe", accepted: int) -> list[str]:
    notes = []
    gate = recipe.evaluation.gate
    given = [source for source in recipe.data.sources if source.split == "test"]
    if not given:
        test = round(accepted * recipe.data.split.test)
        least = detectable(test, spend(1 - gate.confidence, 1)) if test else 1.0
        notes.append(
            f"of as many fresh rows as were looked at, about {test:,} are sealed for the test: "
            f"they can show a difference of {100 * least:.1f} points (power 0.8, one row in ten decided differently)"
        )
    if "id" not in recipe.data.columns:
        notes.append(
            "columns.id is not mapped: a corrected label cannot supersede its row; one text with two labels is refused"
        )
    for number, source in enumerate(recipe.data.sources):
        if isinstance(source, SqlSource) and source.cursor is None:
            notes.append(f"data.sources.{number}: no cursor, so the query is scanned whole at every run")
    return notes


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else " ".join(value)
    return text if len(text) <= CUT else text[: CUT - 1] + "…"
