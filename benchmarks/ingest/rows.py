"""Generated short rows: mostly different texts, 2% near duplicates of others, 1% that the contract refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

CHUNK = 250_000
WORDS = 20_000
LABELS = [f"intent {number:02}" for number in range(20)]
COLUMNS = {"text": "message", "label": "intent", "id": "ticket_id", "timestamp": "created_at"}
NEAR = 50  # one row in so many
BAD = 100
ENDINGS = pa.array(["", "?", "!", ", thanks"])


def write_rows(path: Path, rows: int) -> None:
    """Write a CSV file of so many rows, the same at every call."""
    chance = np.random.default_rng(17)
    words = pa.array(sorted({_random_word(chance) for _ in range(WORDS + WORDS // 4)})).take(
        pa.array(chance.permutation(WORDS))
    )
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            table = pa.table(_make_columns(chance, words, start, min(CHUNK, rows - start)))
            arrow_csv.write_csv(table, file, arrow_csv.WriteOptions(include_header=start == 0))


def _random_word(chance: np.random.Generator) -> str:
    return "".join(chance.choice(list("abcdefghijklmnopqrstuvwxyz"), chance.integers(2, 10)))


def _make_columns(chance: np.random.Generator, words: pa.Array, start: int, size: int) -> dict[str, Any]:
    text = _add_near_duplicates(chance, _make_texts(chance, words, size))
    label = pa.array(LABELS).take(pa.array(chance.integers(0, len(LABELS), size)))
    bad = np.full(size, -1)
    bad[chance.choice(size, size // BAD, replace=False)] = chance.integers(0, 4, size // BAD)
    empty, damaged, unlabelled, unknown = (pa.array(bad == kind) for kind in range(4))
    moments = np.datetime64("2026-01-01T00:00:00") + chance.integers(0, 20_000_000, size).astype("timedelta64[s]")
    return {
        "ticket_id": pa.array([f"t{number:09}" for number in range(start, start + size)]),
        "message": pc.if_else(empty, "", pc.if_else(damaged, pc.binary_join_element_wise(text, "cafÃ©", " "), text)),
        "intent": pc.if_else(unlabelled, "", pc.if_else(unknown, "none of them", label)),
        "created_at": pa.array(moments),
    }


def _make_texts(chance: np.random.Generator, words: pa.Array, size: int) -> pa.Array:
    """Texts of 6 to 14 words, frequent ones more often."""
    counts = chance.integers(6, 15, size)
    chosen = words.take(pa.array((WORDS * chance.random(counts.sum()) ** 2).astype(np.int64)))
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    texts = pc.binary_join(pa.ListArray.from_arrays(ends, chosen), " ")
    return pc.binary_join_element_wise(texts, ENDINGS.take(pa.array(chance.integers(0, len(ENDINGS), size))), "")


def _add_near_duplicates(chance: np.random.Generator, texts: pa.Array) -> pa.Array:
    """Some texts say again what others say, half of them with a word more."""
    indices = np.arange(len(texts))
    more = np.zeros(len(texts), dtype=bool)
    near = chance.choice(len(texts), len(texts) // NEAR, replace=False)
    indices[near] = chance.integers(0, len(texts), len(near))
    more[near[::2]] = True
    again = texts.take(pa.array(indices))
    return pc.if_else(pa.array(more), pc.binary_join_element_wise(again, "indeed", " "), again)
