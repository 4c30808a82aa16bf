"""Which rows a look for drift compares: what the champion has learned of, or near, is on neither side."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.errors import DataError
from evertune.monitoring import monitor as monitoring
from evertune.monitoring.monitor import Side
from evertune.objectives import load_objective
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import two_sample as drift
from tests.helpers.cli import write_rows
from tests.helpers.data import good, run, write_csv, write_jsonl
from tests.helpers.data import make_home as home
from tests.helpers.data import make_recipe as kept_recipe
from tests.helpers.model import recipe, split_rows, table, text_rows, train

pytestmark = pytest.mark.slow

CHAMPION = Path("champion")  # its card is all that is read of it
OLD = 900
NEW = 240
TEXTS = 40
HEADER = ("text", "label")


@pytest.fixture(scope="module")
def champion(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = recipe(tiny_model, training={"epochs": 8, "learning_rate": 1e-2})
    return Path(train(one, tmp_path_factory.mktemp("champion"), split_rows(text_rows(60))).bundle)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the rows that are there now those of the champion."""

    def of(place: Home) -> None:
        known = {"version": corpus.newest_version(place), "batch": corpus.last_number(place)}
        monkeypatch.setattr(bundle, "read_card", lambda _: {"snapshot": known})

    return of


def history(random: Any) -> list[tuple[str, str, int]]:
    """Rows of one source: every second is a text of its own, the others recur, and these are shorter."""
    often = 1 / np.arange(1, TEXTS + 1)
    rows = []
    for place in range(OLD + NEW):
        label = "card" if place % 2 else "refund"
        if random.random() < 0.5:
            number = random.choice(TEXTS, p=often / often.sum())
            rows.append((f"note{number} one{number} two{number} three{number}", label, place))
        else:
            words = random.integers(1_000_000, size=random.poisson(9) + 2)
            rows.append((" ".join(f"w{one}" for one in words), label, place))
    return rows


def alarm(before: Side, now: Side, seed: int) -> bool:
    reference, current = (
        drift.Sample(
            lengths=np.array([len(text.split()) for text in side.inputs]), groups=side.groups, kinds=side.kinds
        )
        for side in (before, now)
    )
    return drift.compare_samples(reference, current, seed, 199).p <= 0.05


def test_where_texts_recur_and_nothing_changes_there_is_no_more_alarm_than_stated(tmp_path: Path, card: Any) -> None:
    """Of texts that recur most stand near train rows: without them the new rows are longer, of a kind they are not."""
    alarms = 0
    unlike = 0
    for seed in range(6):
        columns = {"id": "id"}
        one = kept_recipe(tmp_path / str(seed), data={"sources": [{"path": "*.csv"}], "columns": columns})
        place = home(tmp_path / str(seed))
        rows = history(np.random.default_rng(seed))
        write_csv(tmp_path / str(seed) / "a.csv", rows[:OLD], (*HEADER, "id"))
        run(one, place)
        card(place)
        write_csv(tmp_path / str(seed) / "b.csv", rows[OLD:], (*HEADER, "id"))
        run(one, place)
        before, now = monitoring.load_corpus_sides(RunContext(one, place), CHAMPION)
        assert now.left_out > NEW / 4 and now.left_out + len(now.inputs) == NEW
        learned = {row["text"] for row in known(place) if row["split"] in {"train", "validation"}}
        assert learned.isdisjoint([*before.inputs, *now.inputs])
        alarms += alarm(before, now, seed)
        unlike += np.mean([len(text) for text in now.inputs]) > 1.2 * np.mean([len(text) for text in before.inputs])
    assert alarms <= 1 and unlike == 6


def known(place: Home) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = corpus.read_rows(place, corpus.newest_version(place)).to_pylist()
    return [row for row in rows if row["batch"] == 1]


def test_rows_that_were_touched_or_corrected_are_not_new(tmp_path: Path, card: Any) -> None:
    columns = {"id": "id", "timestamp": "at"}
    one = kept_recipe(tmp_path, data={"sources": [{"path": "*.csv"}], "columns": columns})
    place = home(tmp_path)
    header = (*HEADER, *columns.values())
    write_csv(tmp_path / "a.csv", [(*row, number, "2026-01-01") for number, row in enumerate(good(150))], header)
    run(one, place)
    card(place)
    other = {"card": "refund", "refund": "card"}
    again = [(text, other[label], number, "2026-02-01") for number, (text, label) in enumerate(good(60))]
    fresh = [(*row, number, "2026-02-01") for number, row in enumerate(good(20, 900), 900)]
    write_csv(tmp_path / "b.csv", again + fresh, header)
    run(one, place)
    before, now = monitoring.load_corpus_sides(RunContext(one, place), CHAMPION)
    assert sorted(now.inputs) == sorted(text for text, *_ in fresh) and now.left_out == 60
    tested = {row["text"] for row in corpus.read_rows(place, 1).to_pylist() if row["split"] == "test"}
    assert set(before.inputs) == tested and len(before.inputs) == len(tested)


def test_new_threads_are_compared_with_tested_ones(tmp_path: Path, card: Any) -> None:
    """Every row stands beside others of its thread: that is no recurrence, from a source and from a file."""
    one = kept_recipe(tmp_path, data={"sources": [{"path": "*.csv"}], "columns": {"group": "thread"}})
    place = home(tmp_path)
    header = (*HEADER, "thread")
    write_csv(tmp_path / "a.csv", [(*row, f"t{number // 3}") for number, row in enumerate(good(300))], header)
    run(one, place)
    card(place)
    tested = [row for row in known(place) if row["split"] == "test"]
    new = [(*row, f"t{number // 3}") for number, row in enumerate(good(30, 900), 900)]
    going_on = [(*row, tested[0]["group"]) for row in good(2, 990)]
    file = write_csv(tmp_path / "look" / "b.csv", new + going_on, header)
    before, now = monitoring.load_file_sides(RunContext(one, place), CHAMPION, str(file))
    assert (len(before.inputs), len(now.inputs), now.left_out) == (len(tested), 32, 0)
    write_csv(tmp_path / "b.csv", new + going_on, header)
    run(one, place)
    assert [side.inputs for side in monitoring.load_corpus_sides(RunContext(one, place), CHAMPION)] == [
        before.inputs,
        now.inputs,
    ]


def test_rows_of_a_file_are_linked_as_those_of_a_source(tmp_path: Path, card: Any) -> None:
    """Copies are one piece of evidence, so are rows of one thread; and what is near a train row is left out."""
    columns = {"group": "thread"}
    one = kept_recipe(tmp_path, data={"sources": [{"path": "a.csv"}], "columns": columns})
    place = home(tmp_path)
    header = (*HEADER, "thread")
    write_csv(tmp_path / "a.csv", [(*row, "") for row in good(150)], header)
    run(one, place)
    card(place)
    version = corpus.newest_version(place)
    new = [text for text, _ in good(20, 900)]
    old = next(row["text"] for row in known(place) if row["split"] == "train")
    lines = [*((text, "card", "") for text in new), *[("my parcel was lost in the snow", "card", "")] * 30]
    lines += [*((f"{text} delta", "card", "t1") for text, _ in good(5, 950)), (f"{old}!", "card", "")]
    write_csv(tmp_path / "look" / "b.csv", lines, header)
    before, now = monitoring.load_file_sides(RunContext(one, place), CHAMPION, str(tmp_path / "look" / "b.csv"))
    assert (now.left_out, len(now.inputs), len(now.targets or [])) == (1, 55, 55)
    assert sorted(Counter(now.groups.tolist()).values()) == [*[1] * 20, 5, 30]
    assert before.groups is not None and not set(before.groups.tolist()) & set(now.groups.tolist())
    assert corpus.newest_version(place) == version


def test_after_a_rename_an_older_champion_is_as_often_right_as_before(tiny_model: Path, champion: Path) -> None:
    """It still says the old name: that is no mistake, whether rows are looked at or a run compares its test rows."""
    rows = text_rows(120, start=1000)
    order = np.random.default_rng(0).permutation(120)
    made = [{**rows[place], "batch": 1 + number // 60} for number, place in enumerate(order)]
    told: dict[str, list[str]] = {}
    for now in ("the refund", "money back"):
        one = recipe(tiny_model, contract={"label": {"rename": {"refund": now}}}, monitor={"min_rows": 40})
        named = relabel.rename_rows(table(made, "test"), one)
        sides = [monitoring._build_side(one, named.slice(start, 60), "here") for start in (0, 60)]
        looks = [
            monitoring.compare_sides(one, champion, 3, *sides).found,
            monitoring.compare_run_rows(one, champion, 3, named, since=1),
        ]
        words = {test["test"]: test["words"] for found in looks if found for test in found.findings}
        told[now] = [words["performance"], words["prediction"].replace(now, "?")]
    assert told["the refund"] == told["money back"] and "'?'" in told["the refund"][1]


def test_a_file_is_compared_with_its_labels_if_every_row_has_one(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model)
    path = write_rows(tmp_path / "a.csv", [("one", "card"), ("two", "card"), ("", "card")])
    assert monitoring.read_file_rows(one, str(path))[2] == ["card", "card"]
    assert monitoring.read_file_rows(one, str(write_rows(path, [("one", "card"), ("two", "")])))[2] is None
    path.write_text("text\none\n")
    assert monitoring.read_file_rows(one, str(path))[2] is None
    path.write_text("text\n\n")
    with pytest.raises(DataError, match=r"a\.csv: no row has a value in the column text"):
        monitoring.read_file_rows(one, str(path))


@pytest.mark.parametrize(
    ("kind", "role", "rows"),
    [
        ("multi-label", "labels", [("one", ["card", "refund"]), ("two", [])]),
        ("token-classification", "tags", [(["in", "Rome"], ["O", "B-LOC"]), (["no"], ["O"])]),
    ],
)
def test_lists_of_labels_in_a_file_are_compared_too(tmp_path: Path, kind: str, role: str, rows: list[Any]) -> None:
    one = kept_recipe(tmp_path, objective={"type": kind})
    path = tmp_path / "a.jsonl"
    given = load_objective(kind).INPUTS[0]
    write_jsonl(path, [{given: said, role: named} for said, named in rows])
    assert monitoring.read_file_rows(one, str(path))[2] == [named for _, named in rows]
    write_jsonl(path, [{given: said, role: None} for said, _ in rows])
    assert monitoring.read_file_rows(one, str(path))[2] is None


def test_a_blank_cell_is_no_empty_set_of_labels(tmp_path: Path) -> None:
    one = kept_recipe(tmp_path, objective={"type": "multi-label"})
    path = write_csv(tmp_path / "a.csv", [("one", "card|refund"), ("two", "card")], ("text", "labels"))
    assert monitoring.read_file_rows(one, str(path))[2] == [["card", "refund"], ["card"]]
    write_csv(path, [("one", "card|refund"), ("two", "")], ("text", "labels"))
    assert monitoring.read_file_rows(one, str(path))[2] is None
