"""`state.json` keeps its keys and values over versions of Evertune."""

import json
from dataclasses import replace
from pathlib import Path

from evertune.data.corpus.state import CorpusState, load_state, update_state
from tests.helpers.data import make_home

# As it was written before it was typed; `from_a_later_version` is a key that this version does not know.
OLD = """\
{
 "files": {
  "rows/a.csv": [
   1234,
   1700000000000000000,
   "5f0c"
  ]
 },
 "batch": 2,
 "sources": {
  "rows/a.csv": "5f0c"
 },
 "splits": {
  "rows/a.csv": null
 },
 "roles": [
  "text",
  "label",
  "id"
 ],
 "concluded": {
  "recipe": "9b1e",
  "snapshot": "77aa",
  "outcome": {
   "decision": "promoted",
   "reason": "caf\u00e9"
  },
  "batch": 2,
  "sources": {
   "rows/a.csv": "5f0c"
  }
 },
 "recipe": {
  "name": "kept-rows",
  "data": {
   "columns": {
    "id": "ticket"
   }
  }
 },
 "from_a_later_version": {
  "x": 1
 }
}
"""


def write_state(folder: Path, text: str) -> Path:
    path = make_home(folder).state
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_state_of_before_is_read_and_saved_back_unchanged(tmp_path: Path) -> None:
    path = write_state(tmp_path, OLD)
    state = load_state(make_home(tmp_path))
    stored = json.loads(OLD)
    assert (state.batch, state.concluded_batch) == (2, 2)
    assert (state.sources, state.splits) == ({"rows/a.csv": "5f0c"}, {"rows/a.csv": None})
    assert state.roles == ["text", "label", "id"]
    assert state.files == stored["files"]
    assert state.recipe == stored["recipe"]
    assert state.concluded == stored["concluded"]
    update_state(make_home(tmp_path), lambda current: replace(current, batch=current.batch))
    assert path.read_text(encoding="utf-8") == OLD


def test_a_missing_key_has_its_default_and_is_not_written(tmp_path: Path) -> None:
    assert load_state(make_home(tmp_path)) == CorpusState()
    path = write_state(tmp_path, '{"sources": {"a.csv": "1"}, "concluded": null}')
    state = load_state(make_home(tmp_path))
    assert state == CorpusState(sources={"a.csv": "1"})
    assert state.concluded_batch == 0
    update_state(make_home(tmp_path), lambda current: replace(current, batch=1))
    assert json.loads(path.read_text()) == {"sources": {"a.csv": "1"}, "concluded": None, "batch": 1}


def test_a_changed_field_is_written_even_where_it_is_empty(tmp_path: Path) -> None:
    path = write_state(tmp_path, "{}")
    update_state(make_home(tmp_path), lambda current: replace(current, splits={}))
    assert json.loads(path.read_text()) == {"splits": {}}


def test_a_change_of_nothing_writes_nothing(tmp_path: Path) -> None:
    update_state(make_home(tmp_path), lambda current: current)
    assert not make_home(tmp_path).state.exists()
