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

from benchmarks.command import ROOT, describe_machine
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
        given_folder = os.environ.get("GROWTH_FOLDER")
        folder = Path(given_folder or stack.enter_context(tempfile.TemporaryDirectory()))
        return {
            "machine": describe_machine(),
            "rows": ROWS,
            **{arm: select_days(_run_history(folder / arm, arm, days)) for arm, days in DAYS.items()},
        }


def select_days(days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The days that the page tells of, and those around them."""
    day_numbers = {day + more for day in (*ASKED, len(days)) for more in range(-AROUND, AROUND + 1)}
    return [_select_fields(day) for day in days if day["day"] in day_numbers]


def _run_history(folder: Path, arm: str, days: int) -> list[dict[str, Any]]:
    """The days of a history, those that are lacking lived now, some in each process."""
    while (lived := len(_read_days(folder))) < days:
        command = [sys.executable, "-m", "benchmarks.growth.run", str(folder), arm, str(min(days, lived + PIECE))]
        environment = {**os.environ, "EVERTUNE_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if process.returncode or len(_read_days(folder)) == lived:
            raise RuntimeError(f"day {lived + 1} of {arm} failed:\n{process.stderr[-3000:]}")
        last = _read_days(folder)[-1]
        summary = f"{last['wall']:.2f} s, {last['cpu']:.2f} s of the processor"
        sys.stderr.write(f"{arm}: day {last['day']}, {summary}, {last['bytes']['all'] / 1e6:.0f} MB\n")
    return _read_days(folder)[:days]


def _read_days(folder: Path) -> list[dict[str, Any]]:
    path = folder / "days.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _select_fields(day: dict[str, Any]) -> dict[str, Any]:
    return {key: day[key] for key in ("day", "wall", "cpu", "seconds", "bytes", "files")}


def simulate_days(folder: Path, arm: str, until: int) -> None:
    """Live the days up to this one, in this process and without Prefect's server; each day is noted when it is over."""
    with ExitStack() as stack:
        for name in ("create_link_artifact", "create_markdown_artifact", "create_table_artifact"):
            stack.enter_context(mock.patch(f"prefect.artifacts.{name}"))
        stack.enter_context(mock.patch("prefect.task", lambda **_: lambda function: function))
        # Two processes, of Great Expectations and of the parity check, start each day: seconds, whatever the history.
        stack.enter_context(mock.patch("evertune.runtime.helper_process.start_helper"))
        stack.enter_context(mock.patch("evertune.registry.versions.parity.prepare_check"))
        stack.enter_context(
            mock.patch("evertune.registry.versions.parity.check_parity", lambda *_: {"test": "parity", "passed": True})
        )
        from evertune.config import load_recipe
        from flows.retrain import retrain

        recipe = load_recipe(str(growth_rows.write_recipe(folder, arm)))
        for day in range(len(_read_days(folder)) + 1, until + 1):
            growth_rows.write_day(folder / "rows" / f"{day:04d}.csv", day, ROWS)
            start = time.perf_counter()
            busy_start = _processor_seconds()
            outcome = retrain.fn(recipe)
            times = {"wall": round(time.perf_counter() - start, 3), "cpu": round(_processor_seconds() - busy_start, 3)}
            gc.freeze()  # else a training looks through all that MLflow and others have left in this process: seconds
            _promote_weekly(recipe, outcome, day)
            _record_day(folder, day, times, outcome, look=day % SIZES == 0 or day in {1, until})


def _promote_weekly(recipe: Any, outcome: Any, day: int) -> None:
    from evertune.registry.decisions import promotion
    from evertune.runtime.home import home_of

    if (day % WEEK == 1 or day == 1) and outcome.version not in {None, outcome.champion_version}:
        promotion.promote_version(home_of(recipe), recipe.registered_name, outcome.version, f"week {day // WEEK}")


def _processor_seconds() -> float:
    """Seconds of the processor, of this process and those that it waited for: what others do adds nothing."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _record_day(folder: Path, day: int, times: dict[str, float], outcome: Any, *, look: bool) -> None:
    """Write a day down; where nobody looks at the sizes, they are those of the last look."""
    sizes = (
        _measure_sizes(folder / "home") if look else {name: _read_days(folder)[-1][name] for name in ("bytes", "files")}
    )
    facts = {
        "day": day,
        **times,
        "seconds": outcome.seconds,
        **sizes,
        "decision": outcome.decision,
        "rows": outcome.snapshot["rows"],
    }
    with (folder / "days.jsonl").open("a") as file:
        file.write(json.dumps(facts) + "\n")


def _measure_sizes(root: Path) -> dict[str, Any]:
    [model] = (root / "models").iterdir()
    paths = {**{name: model / name for name in PLACES}, "mlflow": root / "mlflow", "all": root}
    sizes = {name: _disk_size(path) for name, path in paths.items()}
    sizes["database"] = _disk_size(root / "mlflow" / "mlflow.db")
    return {"bytes": sizes, "files": sum(1 for _ in root.rglob("*"))}


def _disk_size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


if __name__ == "__main__":
    simulate_days(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
