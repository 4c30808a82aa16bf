"""A home with people in it who may want to be forgotten, and what of it holds a text."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from evertune.config import Recipe
from tests.helpers.data import TOLERANT
from tests.helpers.data import make_recipe as recipe

HEADER = ("text", "label", "id")
SECRET = "ada lovelace wrote of her engine and its punched cards"


def loaded(folder: Path) -> Recipe:
    return recipe(folder, data={"sources": [{"path": "*.csv"}], "columns": {"id": "id"}}, **TOLERANT)


def kept(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file of a home, decoded."""
    for path in sorted(one for one in root.rglob("*") if one.suffix != ".lock"):
        if path.suffix == ".parquet":
            yield path, str(pq.read_table(path).to_pylist())
        elif path.suffix == ".db":
            with sqlite3.connect(path) as database:
                yield path, "\n".join(database.iterdump())
        elif path.is_file():
            yield path, path.read_text(encoding="utf-8", errors="replace")


def shown(root: Path, *texts: str) -> set[str]:
    """Files that hold one of the texts."""
    return {path.name for path, content in kept(root) if any(text in content for text in texts)}
