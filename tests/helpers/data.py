"""Recipes, rows and the steps from sources to the corpus, for tests of stored rows."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from evertune.config import Recipe, load_recipe
from evertune.data import admission
from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.state import update_state
from evertune.data.row_versions import add_keys
from evertune.data.sources import read as sources
from evertune.records import Batch, Snapshot
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.runtime.threads import Spread

TOKENS = {"type": "token-classification"}
TOLERANT: dict[str, Any] = {"contract": {"tolerance": 0.5}}
# Refused together with `good` rows, each for another reason; the last two contradict each other.
REFUSED = [
    ("it was caf\u00c3\u00a9 ole", "card"),
    ("a label with a slip", "crad"),
    ("one text twice", "card"),
    ("one text twice", "refund"),
]


def make_recipe(folder: Path, **sections: Any) -> Recipe:
    """Write a small recipe to `folder` and load it; sections are as in the YAML."""
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


def make_home(folder: Path) -> Home:
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
    """Return rows of two labels that the contract accepts, without near duplicates."""
    template = "{0} alpha{0} bravo{0} charlie{0} delta{0}"
    return [(template.format(number), "card" if number % 2 else "refund") for number in range(start, start + count)]


def ingest(recipe: Recipe, home: Home) -> Batch:
    return corpus.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen))


def run(recipe: Recipe, home: Home, spread: Spread | None = None, docs: Path | None = None) -> Snapshot:
    """Do what the flow does with fresh rows: ingest, check, commit; and note that the run was concluded."""
    snapshot = admission.admit_batch(ingest(recipe, home), RunContext(recipe, home), docs, spread=spread)[0]
    update_state(home, lambda state: replace(state, concluded={"batch": snapshot.batch}))
    return snapshot


def current(home: Home, *columns: str) -> list[dict[str, Any]]:
    return corpus.read_rows(home, corpus.newest_version(home), list(columns) or None).to_pylist()


def keyed_rows(recipe: Recipe, rows: list[dict[str, Any]], source: str = "test") -> pa.Table:
    """Return rows as the contract gets them; missing roles are null."""
    kinds = {"timestamp": pa.timestamp("us", "UTC"), "tokens": pa.list_(pa.string()), "tags": pa.list_(pa.string())}
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in names}
    columns["source"] = pa.array([source] * len(rows))
    columns["source_row"] = pa.array(range(len(rows)), pa.int64())
    return add_keys(pa.table(columns), recipe)
