"""A project that lives for some weeks in a crash worker's children, and what must be true of it at each week's end."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.registry.decisions import ledger
from evertune.registry.tracking import queries, store
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home
from tests.helpers.cli import Project
from tests.helpers.data import write_csv

WORDS = (  # of each week: what was said before, and what no champion has seen
    {"refund": "money back amount", "delivery": "parcel van courier", "account": "password login email"},
    {"refund": "reimburse voucher credit", "delivery": "pallet drone locker", "account": "passkey avatar handle"},
    {"refund": "chargeback rebate coupon", "delivery": "freight customs pickup", "account": "wallet badge cookie"},
)
ROWS = 48  # a week


@dataclass
class Worker:
    """A process that forks a child for each run."""

    process: "subprocess.Popen[str]"
    modules: list[str] = field(default_factory=list)

    def run(self, project: Project, kill: Mapping[str, Any] | None = None, processes: bool = False) -> dict[str, Any]:
        """What is told of one run: `killed` where it was; else its `outcome` and `counts`, or its `error`."""
        job = {
            "recipe": str(project.recipe),
            "home": str(project.home.root),
            "kill": kill,
            "processes": processes,
            "log": str(project.folder / "log.txt"),
            "modules": self.modules,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        told = self._heard()
        while "signal" not in told:
            told |= self._heard()
        self.modules = told.pop("modules", self.modules)
        return told

    def _heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the worker is gone"
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def working(environment: Mapping[str, str]) -> Iterator[Worker]:
    """A worker while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.crash_worker"],
        env=dict(environment),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        worker = Worker(process)
        assert worker._heard() == {"ready": 1}  # a fork takes one thread along
        yield worker
    finally:
        process.kill()
        process.wait()


def new_project(folder: Path, base: Path, empty: Path, *, epochs: int = 6, **fresh: Any) -> Project:
    """A project without rows, whose MLflow store is made ready.

    Args:
        fresh: the recipe's `data.fresh`.
    """
    shutil.copytree(empty, folder / "home")
    return Project(folder, base, "").write(
        data={
            "sources": [{"path": "rows/*.csv"}],
            "columns": {"id": "id"},
            "split": {"validation": 0.1, "test": 0.3},
            "fresh": fresh,
        },
        training={
            "epochs": epochs,
            "learning_rate": 1e-2,
            "tokens_per_batch": 256,
            "precision": "fp32",
            "warmup": 0.0,
            "checkpoint_steps": 12,
        },
        evaluation={
            "precision": "fp32",
            "bootstrap": 200,
            "gate": {"minimum": {"accuracy": 0.3}, "min_rows": 5, "noninferior_on": {"history": 0.5}},
        },
    )


def write_week(project: Project, week: int, size: int = ROWS) -> None:
    """A file of a week's rows: new words for each label, two rows to be refused, and from week 1 on a corrected one."""
    rows = []
    for number in range(size):
        label = list(WORDS[week])[number % 3]
        words = WORDS[week][label].split()
        said = f"{words[number % 3]} {words[(number + 1) % 3]} {words[(number // 3) % 3]} x{number * 7919 % 1000}"
        rows.append((f"{week}-{number}", f"{said} {number * 37 + week}", label))
    rows += [(f"{week}-bad", "", "refund"), (f"{week}-worse", f"no label in week {week}", "")]
    if week:
        rows.append((f"{week - 1}-0", f"chargeback at last, and late {week}", "refund"))
    write_csv(project.folder / "rows" / f"{week}.csv", rows, ("id", "text", "label"))


def state(project: Project) -> dict[str, Any]:
    """All that a person could ask for of a project between two runs; equal for equal histories."""
    home = project.home
    columns = ["row_version", "row_key", "split", "text", "batch"]
    return {
        "corpus": sorted(map(str, corpus.read_history(home, columns).to_pylist())),
        "current": [list(row.values()) for row in current(home)],
        "quarantine": sorted(
            (one["id"], one["reasons"], one["batch"]) for one in quarantine.list_refused(home).to_pylist()
        ),
        "runs": runs(home),
        "left": [path.name for path in home.runs.glob("*/.*") if path.is_dir()],
        "versions": [
            (int(one.version), one.tags["evertune.decision"]) for one in models.list_versions(home, "tickets")
        ],
        "aliases": [models.resolve_alias(home, "tickets", which) for which in ("champion", "challenger")],
        "ledger": told(home),
        "files": [len(list(folder.glob("[0-9]*.parquet"))) for folder in (home.corpus, home.quarantine)],
        "batches": sorted(path.name for path in home.batches.iterdir() if not path.name.startswith(".")),
    }


def current(home: Home) -> list[dict[str, Any]]:
    return corpus.read_rows(home, corpus.newest_version(home), ["id", "text", "label", "split"]).to_pylist()


def runs(home: Home) -> list[Any]:
    """Of every run in MLflow its status, its metrics, how often each was logged, and how many models."""
    client = store.open_client(home)
    place = store.ensure_experiment(home, "tickets")
    found = []
    for one in client.search_runs([place], order_by=["attributes.start_time ASC"]):
        run_id = one.info.run_id
        metrics = sorted(one.data.metrics.items())
        metrics = [(key, 0.0 if key == queries.TRAINING_SECONDS else value) for key, value in metrics]
        times = [len(client.get_metric_history(run_id, key)) for key, _ in metrics]
        models_logged = len(client.search_logged_models([place], f"source_run_id = '{run_id}'"))
        found.append((one.info.status, [(key, round(value, 5)) for key, value in metrics], times, models_logged))
    return found


def told(home: Home) -> list[Any]:
    """The ledger without what a crash adds by right: a move that was given up, a night on which nothing was new."""
    assert ledger.find_open_intent(home) is None  # each move is confirmed, or given up
    found: list[Any] = []
    for one in ledger.read_entries(home):
        if one["event"] == "abandoned":
            found = found[:-1]  # its intent
        elif one["event"] != "unchanged":
            found.append((one["event"], one.get("verdict"), one.get("version"), one.get("from"), one.get("to")))
    return found
