"""Which test rows are scored, since when they are known, and which leaked."""

from pathlib import Path

import pytest

from evertune.data.corpus import transactions as corpus
from evertune.evaluation.test_rows import has_superseded_rows, load_test_rows, set_first_batches
from evertune.runtime.context import RunContext
from tests.helpers.data import good, home, recipe, run, write_csv

HEADER = ("id", "text", "label")
DATA = {"sources": [{"path": "*.csv"}], "columns": {"id": "id"}, "split": {"test": 0.5}}


def test_rows_of_a_snapshot_are_its_test_rows_with_all_columns(tmp_path: Path) -> None:
    one, place = recipe(tmp_path, data=DATA), home(tmp_path)
    rows = good(40)
    write_csv(tmp_path / "a.csv", [(str(number), *row) for number, row in enumerate(rows)], HEADER)
    run(one, place)
    version = corpus.newest_version(place)
    scored, leaked = load_test_rows(RunContext(one, place), version, since=None)
    assert len(scored) > 5 and set(scored["split"].to_pylist()) == {"test"} and leaked == set()
    assert {"text", "label", "component", "row_version"} <= set(scored.column_names)


def test_a_corrected_row_is_new_and_a_known_one_is_not(tmp_path: Path) -> None:
    one, place = recipe(tmp_path, data=DATA), home(tmp_path)
    rows = [(str(number), *row) for number, row in enumerate(good(40))]
    write_csv(tmp_path / "a.csv", rows, HEADER)
    run(one, place)
    before = corpus.read_rows(place, corpus.newest_version(place))
    assert not has_superseded_rows(before) or len(before) == 40
    labels = {row[0]: row[2] for row in rows}
    other = {first: second for first in set(labels.values()) for second in set(labels.values()) if second != first}
    corrected = [(row[0], row[1], other[row[2]]) for row in rows[:6]]
    write_csv(tmp_path / "b.csv", corrected, HEADER)
    run(one, place)
    version = corpus.newest_version(place)
    scored, _ = load_test_rows(RunContext(one, place), version, since=1)
    batches = dict(zip(scored["id"].to_pylist(), scored["batch"].to_pylist(), strict=True))
    assert {name for name, batch in batches.items() if batch == 2} == {str(number) for number in range(6)} & set(
        batches
    )
    assert set(batches.values()) == {1, 2}
    aged = set_first_batches(corpus.read_rows(place, version), RunContext(one, place))
    assert aged.filter([split == "test" for split in aged["split"].to_pylist()])["batch"].to_pylist() == [
        batches[name]
        for name in aged.filter([split == "test" for split in aged["split"].to_pylist()])["id"].to_pylist()
    ]


@pytest.mark.parametrize(("keys", "expected"), [(["a", "b"], False), (["a", "c"], True)])
def test_a_row_key_of_its_own_tells_of_earlier_versions(keys: list[str], expected: bool) -> None:
    import pyarrow as pa

    rows = pa.table({"row_key": keys, "row_version": ["a", "b"]})
    assert has_superseded_rows(rows) is expected
