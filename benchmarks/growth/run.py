"""What a day costs after a thousand days: run time by step, database and disk, under `train_on: replay` and `all`."""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.command import ROOT, machine
from benchmarks.growth import rows as growth_rows
from benchmarks.growth.page import AROUND, ASKED

DAYS = {"replay": int(os.environ.get("GROWTH_DAYS", "1000")), "all": int(os.environ.get("GROWTH_ALL_DAYS", "200"))}
PIECE = 25  # days that one process lives
WEEK = 7  # each seventh version is promoted by hand: a champion is a week old at most
ROWS = 100  # a day
SIZES = 10  # every so many days the disk is looked at: a hundred thousand files take longer than the day
PLACES = ("corpus", "quarantine", "tokens", "runs", "batches", "data_docs", "ledger.jsonl", "state.json")


def measure() -> dict[str, Any]:
    """Every day of both histories; with GROWTH_FOLDER they are kept there, and a later call goes on from there."""
    with ExitStack() as stack:
        given = os.environ.get("GROWTH_FOLDER")
        folder = Path(given or stack.enter_context(tempfile.TemporaryDirectory()))
        return {
            "machine": machine(),
            "rows": ROWS,
            **{arm: told(_history(folder / arm, arm, days)) for arm, days in DAYS.items()},
        }


def told(days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The days that the page tells of, and those around them."""
    asked = {day + more for day in (*ASKED, len(days)) for more in range(-AROUND, AROUND + 1)}
    return [_told(one) for one in days if one["day"] in asked]


def _history(folder: Path, arm: str, days: int) -> list[dict[str, Any]]:
    """The days of a history, those that are lacking lived now, some in each process."""
    while (lived := len(_lines(folder))) < days:
        command = [sys.executable, "-m", "benchmarks.growth.run", str(folder), arm, str(min(days, lived + PIECE))]
        environment = {**os.environ, "EVERTUNE_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode or len(_lines(folder)) == lived:
            raise RuntimeError(f"day {lived + 1} of {arm} failed:\n{done.stderr[-3000:]}")
        last = _lines(folder)[-1]
        took = f"{last['wall']:.2f} s, {last['cpu']:.2f} s of the processor"
        sys.stderr.write(f"{arm}: day {last['day']}, {took}, {last['bytes']['all'] / 1e6:.0f} MB\n")
    return _lines(folder)[:days]


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "days.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _told(day: dict[str, Any]) -> dict[str, Any]:
    return {key: day[key] for key in ("day", "wall", "cpu", "seconds", "bytes", "files")}


def live(folder: Path, arm: str, until: int) -> None:
    """Live the days up to this one, in this process and without Prefect's server; each day is noted when it is over."""
    with ExitStack() as stack:
        for name in ("create_link_artifact", "create_markdown_artifact", "create_table_artifact"):
            stack.enter_context(mock.patch(f"prefect.artifacts.{name}"))
        stack.enter_context(mock.patch("prefect.task", lambda **_: lambda function: function))
        # Two processes, of Great Expectations and of the parity check, start each day: seconds, whatever the history.
        stack.enter_context(mock.patch("evertune.runtime.helper_process.prepare"))
        stack.enter_context(mock.patch("evertune.registry.versions.parity.prepare"))
        stack.enter_context(
            mock.patch("evertune.registry.versions.parity.check", lambda *_: {"test": "parity", "passed": True})
        )
        from evertune.config import load
        from flows.retrain import retrain

        recipe = load(str(growth_rows.recipe(folder, arm)))
        for day in range(len(_lines(folder)) + 1, until + 1):
            growth_rows.write(folder / "rows" / f"{day:04d}.csv", day, ROWS)
            start, busy = time.perf_counter(), _processor()
            outcome = retrain.fn(recipe)
            spent = {"wall": round(time.perf_counter() - start, 3), "cpu": round(_processor() - busy, 3)}
            gc.freeze()  # else a training looks through all that MLflow and others have left in this process: seconds
            _promote(recipe, outcome, day)
            _note(folder, day, spent, outcome, look=day % SIZES == 0 or day in {1, until})


def _promote(recipe: Any, outcome: Any, day: int) -> None:
    from evertune.registry.decisions import promotion
    from evertune.runtime.home import home_of

    if (day % WEEK == 1 or day == 1) and outcome.version not in {None, outcome.champion_version}:
        promotion.promote(home_of(recipe), recipe.registered_name, outcome.version, f"week {day // WEEK}")


def _processor() -> float:
    """Seconds of the processor, of this process and those that it waited for: what others do adds nothing."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _note(folder: Path, day: int, spent: dict[str, float], outcome: Any, *, look: bool) -> None:
    """Write a day down; where nobody looks at the sizes, they are those of the last look."""
    sizes = _sizes(folder / "home") if look else {name: _lines(folder)[-1][name] for name in ("bytes", "files")}
    facts = {
        "day": day, **spent, "seconds": outcome.seconds, **sizes, "decision": outcome.decision,
        "rows": outcome.snapshot["rows"],
    }  # fmt: skip
    with (folder / "days.jsonl").open("a") as file:
        file.write(json.dumps(facts) + "\n")


def _sizes(root: Path) -> dict[str, Any]:
    [model] = (root / "models").iterdir()
    places = {**{name: model / name for name in PLACES}, "mlflow": root / "mlflow", "all": root}
    sizes = {name: _size(place) for name, place in places.items()}
    sizes["database"] = _size(root / "mlflow" / "mlflow.db")
    return {"bytes": sizes, "files": sum(1 for _ in root.rglob("*"))}


def _size(place: Path) -> int:
    if not place.is_dir():
        return place.stat().st_size if place.exists() else 0
    return sum(one.stat().st_size for one in place.rglob("*") if one.is_file())


if __name__ == "__main__":
    live(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
