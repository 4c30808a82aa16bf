"""Forgetting where rows have no ids: a row is known by its text, or by its version."""

import shutil
from pathlib import Path

import pytest
from data_helpers import TOLERANT, good, ingest, recipe, run, write_csv
from forget_helpers import SECRET, shown

from evertune import forgetting, quarantine
from evertune.home import Home

BROKEN = "the caf\u00c3\u00a9 where alan turing sat each sunday morning"


@pytest.fixture
def place(tmp_path: Path, model_store: Path) -> Home:
    shutil.copytree(model_store.with_name("empty") / "mlflow", tmp_path / "home" / "mlflow")
    return Home(tmp_path / "home", "kept-rows")


def test_without_an_id_a_row_is_its_text(tmp_path: Path, place: Home) -> None:
    write_csv(tmp_path / "a.csv", [*good(20), (SECRET, "card"), (SECRET, "card"), (BROKEN, "card")])
    one = recipe(tmp_path, **TOLERANT)
    run(one, place)
    name = quarantine.listing(place)["row_version"][0].as_py()
    assert forgetting.forget(one, place, {"id": [name]}, "why").rows == {"corpus": 0, "quarantine": 1, "batches": 0}
    assert forgetting.forget(one, place, {"text": [SECRET.upper() + "!"]}, "why").rows["corpus"] == 2
    assert shown(place.root, "lovelace", "turing") == set()
    write_csv(tmp_path / "b.csv", [(SECRET, "refund"), *good(4, 60)])
    assert ingest(one, place).rows == 4
