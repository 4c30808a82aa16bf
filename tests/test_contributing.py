"""The walk-through of CONTRIBUTING.md: its blocks, laid over a copy of the project, are an objective that lives."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import ticket_rows

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STARS = {"refund": 1, "delivery": 3, "account": 5}
TESTS = (
    "tests/objectives/test_every_objective.py",
    "tests/objectives/test_objectives.py",
    "tests/objectives/test_ordinal.py",
    "tests/profiling/test_role_columns.py",
    "tests/test_docs.py",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's files with the walk-through's blocks laid over it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    folder = tmp_path / "copy"
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        lay(folder / name, text)
    return folder


def lay(file: Path, text: str) -> None:
    """Write a new file; of one that is there, put the block in the place of the block's first line."""
    if not file.exists():
        file.write_text(text, encoding="utf-8")
        return
    there = file.read_text(encoding="utf-8")
    first = text.splitlines(keepends=True)[0]
    assert there.count(first) == 1, (file, first)
    file.write_text(there.replace(first, text), encoding="utf-8")


def python(folder: Path, *arguments: str, **environment: str) -> str:
    """What Python prints in the copy, which it imports in the place of this project."""
    settings = {**os.environ, "PYTHONPATH": str(folder), "EVERTUNE_HOME": str(folder / ".evertune"), **environment}
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_walk_through_adds_an_objective_that_passes_the_tests_over_all_of_them(
    copy: Path, tmp_path: Path, model_store: Path
) -> None:
    chosen = "(ordinal or star_ratings) and not without_evertune"
    store = str(model_store.with_name("empty"))
    said = python(copy, "-m", "pytest", *TESTS, "-k", chosen, "-p", "no:cacheprovider", EVERTUNE_EMPTY_STORE=store)
    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert passed and int(passed[1]) >= 7 and "skipped" not in said, said
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        rows = [(text, STARS[label]) for text, label in ticket_rows(120)]
        csv.writer(file).writerows([("text", "stars"), *rows, ("far too good for the scale", 7)])
    checked = python(copy, "-m", "evertune", "check", "configs/star_ratings.yaml", EVERTUNE_REVIEWS=str(tmp_path))
    assert "the recipe is valid (ordinal" in checked, checked
    assert re.search(r"accepted\W+120\W", checked) and "row that makes no sense" in checked, checked
