"""Reading a CSV file in blocks of lines gives the same rows as Python's reader, line by line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from evertune.data.sources.chunk import Layout
from evertune.data.sources.formats import csv as csv_format
from evertune.data.sources.formats import csv_blocks
from evertune.data.sources.formats.text_file import SourceFile
from evertune.data.sources.tables import build_whole_table

LAYOUT = Layout(
    {"text": "a", "label": "b", "timestamp": "c"}, {"text": "string", "label": "string", "timestamp": "timestamp"}
)
CELLS = st.sampled_from(
    ["", "x", '"x"', '"a,b"', '"two\nlines"', '"said ""hi"""', '"open', 'in"side', '"a" b', "é", "\u2028"]
)
MOMENTS = st.sampled_from(
    ["", "2026-01-02 03:04:05", "2026-02-30 03:04:05", "1767323045", "soon", "2024-02-29T00:00:00.5Z"]
)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r", ""])
LINES = st.lists(st.tuples(st.lists(CELLS, min_size=1, max_size=3), MOMENTS, ENDS), max_size=12)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, has_wrong_byte=st.booleans(), block=st.sampled_from([1, 20, 1 << 20]))
@example(lines=[(['"open'], "", "\n"), (["x", "x"], "", "\n"), (['"x"', "x"], "", "")], has_wrong_byte=False, block=1)
def test_blocks_of_lines_are_rows(
    tmp_path: Path, lines: list[tuple[list[str], str, str]], has_wrong_byte: bool, block: int
) -> None:
    text = "a,b,c\n" + "".join(",".join([*cells, moment]) + end for cells, moment, end in lines)
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode() + b"x,caf\xe9,\n" * has_wrong_byte)
    file = SourceFile(path, "a.csv", "csv")
    expected = build_whole_table(csv_format.read_rows(file, ["a", "b", "c"]), LAYOUT, "a.csv").drop_columns(
        ["source", "given_split"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "BLOCK", block)
        rows = [row for table in csv_format.read_tables(file, ["a", "b", "c"], LAYOUT) for row in table.to_pylist()]
    assert rows == expected.to_pylist()
