"""A release refuses an id that a spreadsheet changed: `row_version` says which row it is."""

import pyarrow as pa
import pytest

from evertune.data.quarantine.release import _check_ids
from evertune.errors import DataError


def make_rows(*ids: str | None) -> pa.Table:
    versions = [f"v{index}" for index in range(len(ids))]
    return pa.table({"row_version": versions, "id": pa.array(ids, pa.string())})


@pytest.mark.parametrize("new", ["10", "00010.0", "00010 ", None])
def test_a_changed_id_is_refused_with_row_and_count(new: str | None) -> None:
    with pytest.raises(DataError, match=r"1 of the mended rows .* instead of '00010' \(row 1, row_version v1\)"):
        _check_ids(make_rows("00009", "00010"), make_rows("00009", new))


def test_the_same_id_and_a_first_id_are_kept() -> None:
    _check_ids(make_rows("00009", None), make_rows("00009", "7"))
    _check_ids(make_rows("00009"), make_rows("00009").drop_columns("id"))
