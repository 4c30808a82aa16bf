"""Recipes, rows and the road from sources to the corpus, as the tests of kept rows use them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from evertune.config import Recipe, load_recipe
from evertune.data import admission
from evertune.data.corpus import transactions as corpus
from evertune.data.row_versions import add_keys
from evertune.data.sources import read as sources
from evertune.records import Batch, Snapshot
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home
from evertune.runtime.threads import Spread

TOKENS = {"type": "token-classification"}
TOLERANT: dict[str, Any] = {"contract": {"tolerance": 0.5}}
# Refused beside `good` rows, each for a reason of its own; the last two contradict each other.
REFUSED = [
    ("it was caf\u00c3\u00a9 ole", "card"),
    ("a label with a slip", "crad"),
    ("one text twice", "card"),
    ("one text twice", "refund"),
]


def recipe(folder: Path, **sections: Any) -> Recipe:
    """A small recipe in `folder`; `data` and `contract` are given as the YAML has them."""
    tree = {
        "name": "kept-rows",
        "objective": {"type": "text-classification"},
        "base_model": "package:none/model",
        "data": {"sources": [{"path": "*.csv"}]},
        **sections,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_recipe(folder / "recipe.yaml")


def home(folder: Path) -> Home:
    return Home(folder / "home", "kept-rows")


def write_csv(path: Path, rows: Sequence[Sequence[Any]], header: Sequence[str] = ("text", "label")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def good(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Rows of two labels that the contract accepts and of which no two are near duplicates."""
    said = "{0} alpha{0} bravo{0} charlie{0} delta{0}"
    return [(said.format(number), "card" if number % 2 else "refund") for number in range(start, start + count)]


def ingest(one: Recipe, place: Home) -> Batch:
    return corpus.ingest_rows(one, place, lambda seen: sources.read_sources(one, seen))


def run(one: Recipe, place: Home, spread: Spread | None = None, docs: Path | None = None) -> Snapshot:
    """What the flow does with fresh rows: ingest, judge, commit; and the note that the run came to its end."""
    snapshot = admission.admit_batch(ingest(one, place), one, place, docs, spread=spread)[0]
    write_json(place.state, {**(read_json(place.state) or {}), "concluded": {"batch": snapshot.batch}})
    return snapshot


def current(place: Home, *columns: str) -> list[dict[str, Any]]:
    return corpus.read_rows(place, corpus.newest_version(place), list(columns) or None).to_pylist()


def keyed_rows(one: Recipe, rows: list[dict[str, Any]], source: str = "test") -> pa.Table:
    """Rows as the contract gets them; missing roles are null."""
    kinds = {"timestamp": pa.timestamp("us", "UTC"), "tokens": pa.list_(pa.string()), "tags": pa.list_(pa.string())}
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in names}
    columns["source"] = pa.array([source] * len(rows))
    columns["source_row"] = pa.array(range(len(rows)), pa.int64())
    return add_keys(pa.table(columns), one)
