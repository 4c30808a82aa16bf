"""The loop end to end, in processes of its own: a model's life from a bare CSV on, and what crashes leave behind."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from evertune.data.corpus import delta_tables
from evertune.data.corpus import transactions as corpus
from evertune.data.quarantine import release as quarantine
from evertune.registry.decisions import ledger
from evertune.registry.tracking import store
from evertune.registry.versions import versions as models
from tests.helpers.cli import Done, Project, ticket_rows, write_rows

pytestmark = pytest.mark.slow
KEYS = {
    "decision",
    "reason",
    "model",
    "version",
    "champion_version",
    "run_id",
    "snapshot",
    "rows",
    "metrics",
    "seconds",
    "report",
}
SMALL = ("training.epochs=8", "training.learning_rate=0.005", "training.precision=fp32", "evaluation.precision=fp32")
BROKEN = [("", "refund"), ("caf\u00c3\u00a9 was shut", "refund"), ("where is it", "refnud")]


def test_a_model_lives_from_a_bare_csv_on(project: Project) -> None:
    changes = _new_and_check(project)
    first = _first_run(project, changes)
    _nothing_new(project, changes, first)
    _only_fresh_rows(project, changes)
    _score(project)
    _mend_and_release(project)
    _unreadable_champion(project, changes)
    _lost_champion(project, changes)


def _new_and_check(project: Project) -> list[str]:
    project.recipe.unlink()
    made = project.evertune("new", "tickets", "--data", "rows/a.csv", "--output", "recipe.yaml")
    assert (made.status, made.out) == (0, "")
    project.recipe.write_text(project.recipe.read_text().replace("rows/a.csv", "rows/*.csv"))
    small = [f"base_model={project.base}", "objective.max_length=48", "contract.tolerance=0.2", *SMALL]
    changes = [part for one in small for part in ("--set", one)]
    checked = project.evertune("check", "recipe.yaml", *changes, "--json")
    assert checked.status == 0
    assert checked.json["accepted"] == 150
    assert not project.home.corpus.exists()
    return changes


def _first_run(project: Project, changes: list[str]) -> Any:
    done = project.run(*changes, "--set", "evaluation.gate.minimum.accuracy=0.4")
    assert done.status == 0, done.err
    found = done.json
    assert found.keys() >= KEYS
    assert (found["decision"], found["version"], found["champion_version"]) == ("promoted", 1, 1)
    assert (found["rows"]["new"], found["rows"]["accepted"], found["rows"]["refused"]) == (150, 150, 0)
    assert sum(found["snapshot"]["rows"].values()) == 150
    assert Path(found["report"]).is_file()
    card = ModelCard.load(Path(found["report"]).with_name("README.md"))  # written, and an artifact beside the report
    assert card.data.model_name == "tickets" and "| rows/a.csv | 150 |" in card.content
    assert found["seconds"].keys() >= {"ingest", "validate", "tokenize", "finetune", "evaluate", "promote"}
    assert found["metrics"]["test"]["accuracy"] >= 0.4
    run = store.open_client(project.home).get_run(found["run_id"])
    assert (run.info.status, run.data.tags["evertune.decision"]) == ("FINISHED", "promoted")
    kept = {one.path for one in store.open_client(project.home).list_artifacts(found["run_id"], "report")}
    assert kept >= {"report/README.md", "report/report.html"}
    return found


def _nothing_new(project: Project, changes: list[str], first: Any) -> None:
    shutil.copy(project.folder / "rows" / "a.csv", project.folder / "kept.csv")
    arguments = ["run", "recipe.yaml", "--json", *changes, "--set", "evaluation.gate.minimum.accuracy=0.4"]
    done = project.evertune(*arguments, flags=["-X", "importtime"])
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines() if line.startswith("import time:")}
    assert not imported & {"torch", "prefect", "transformers", "mlflow", "great_expectations", "datasets", "pandas"}
    assert (done.json["decision"], done.json["run_id"], done.json["champion_version"]) == (
        "unchanged",
        first["run_id"],
        1,
    )
    assert done.json["rows"]["new"] == 0
    assert [one["champion"] for one in project.entries("unchanged")] == [1]


def _only_fresh_rows(project: Project, changes: list[str]) -> None:
    write_rows(project.folder / "rows" / "b.csv", [*ticket_rows(40, start=150), *BROKEN, *ticket_rows(5)])
    done = project.run(*changes, "--set", "evaluation.gate.minimum.accuracy=0.4")
    rows = done.json["rows"]
    assert (rows["new"], rows["accepted"], rows["refused"]) == (43, 40, 3)
    assert rows["reasons"] == {"missing text": 1, "encoding damage": 1, "unknown label": 1}
    assert sum(done.json["snapshot"]["rows"].values()) == 190
    assert (done.json["decision"], done.json["version"]) == (project.entries("decision")[-1]["verdict"], 2)
    assert "190 rows tokenized, 40 of them in this run" in done.err


def _score(project: Project) -> None:
    lines = [*(text for text, _ in ticket_rows(30, start=500)), "", "one more parcel van"]
    with (project.folder / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([line] for line in lines)])
    done = project.evertune("score", "recipe.yaml", "--input", "in.csv", "--output", "out/scored.jsonl", "--json")
    assert done.json == {
        "output": "out/scored.jsonl",
        "rows": 32,
        "bad": 1,
        "version": models.find_champion(project.home, "tickets"),
    }
    found = [json.loads(line) for line in (project.folder / "out" / "scored.jsonl").read_text().splitlines()]
    assert [one["text"] or "" for one in found] == lines
    assert [one["label"] is None for one in found] == [line == "" for line in lines]
    assert found[30]["problem"] == "text is empty"
    assert {one["model_version"] for one in found} == {done.json["version"]}


def _mend_and_release(project: Project) -> None:
    listed = project.evertune("quarantine", "recipe.yaml", "--json").json
    assert sorted(one["label"] for one in listed) == ["refnud", "refund", "refund"]
    assert project.evertune("quarantine", "recipe.yaml", "--export", "refused.csv").status == 0
    file = project.folder / "refused.csv"
    file.write_text(file.read_text().replace("refnud", "refund").replace("caf\u00c3\u00a9", "caf\u00e9"))
    done = project.evertune("quarantine", "recipe.yaml", "--release", "--from", "refused.csv", "--json")
    assert done.json["released"] == 2
    assert len(quarantine.list_refused(project.home)) == 1


def _unreadable_champion(project: Project, changes: list[str]) -> None:
    version = models.find_champion(project.home, "tickets")
    assert version is not None
    folder = models.fetch_bundle(project.home, "tickets", version)
    lost = folder.rename(folder.with_name("lost"))
    found = project.run(*changes, "--set", "evaluation.gate.minimum.accuracy=0.4").json
    assert (found["decision"], found["version"], found["champion_version"]) == ("held", 3, version)
    assert f"version {version} of tickets: its files are missing" in found["reason"]
    assert (found["rows"]["new"], found["rows"]["accepted"]) == (2, 2)  # the released ones
    assert project.evertune("score", "recipe.yaml", "--input", "in.csv", "--output", "out.csv").status == 5
    lost.rename(folder)
    again = project.run(*changes, "--set", "evaluation.gate.minimum.accuracy=0.4").json  # compares, and trains not
    assert (again["version"], again["run_id"], again["champion_version"]) == (3, found["run_id"], version)
    assert again["decision"] != "unchanged" and "cannot be read" not in again["reason"]
    assert {one["test"] for one in again["evidence"]} >= {"expected"}


def _lost_champion(project: Project, changes: list[str]) -> None:
    before = models.find_champion(project.home, "tickets")
    store.open_client(project.home).delete_registered_model_alias("tickets", "champion")
    write_rows(project.folder / "rows" / "c.csv", ticket_rows(40, start=800))
    found = project.run(*changes, "--set", "evaluation.gate.minimum.accuracy=0.1").json
    assert (found["decision"], found["version"], found["champion_version"]) == ("held", 4, None)
    assert f"the ledger records champion {before}, but the registry has no champion" in found["reason"]
    by_hand = ("promote", "recipe.yaml", "--version", str(before), "--reason", "it was deleted by mistake")
    assert project.evertune(*by_hand).status == 0
    found = project.run(*changes, "--set", "evaluation.gate.minimum.accuracy=0.1").json
    assert found["version"] == 4 and "expected" in {one["test"] for one in found["evidence"]}


SEAL = "from evertune.training.checkpoints import CheckpointSeal as Seal\n"


def test_nothing_is_lost_or_doubled_whatever_crashes(project: Project) -> None:
    """Through Prefect and the command line; test_crash_matrix kills at every step, in its bodies."""
    write_rows(project.folder / "rows" / "b.csv", BROKEN)
    stages = [
        (3, "import pyarrow.parquet as pq\npq.ParquetWriter.write_table = full"),
        (-9, SEAL + "Seal.on_save = after(Seal.on_save, kill)"),
        (130, SEAL + "Seal.on_save = after(Seal.on_save, interrupt)"),
        (3, "from evertune.serving import bundle\nbundle.write_bundle = full"),
        (-9, "from evertune.registry.decisions import ledger\n" + _on_event("moved")),
    ]
    died = [_die(project, status, before) for status, before in stages]
    assert "the disk is full" in died[0].err or "No space left" in died[0].err
    assert "training resumes from step 10" in died[2].err
    assert "training resumes from step 20" in died[3].err
    done = project.run()
    assert done.status == 0
    _check_whole(project, done.json)
    assert project.run().json["decision"] == "unchanged"


def _on_event(event: str) -> str:
    then = f"kill() if event == {event!r} else real(home, event, **facts)"
    return f"real = ledger.append_event\nledger.append_event = lambda home, event, **facts: {then}"


def _die(project: Project, status: int, before: str) -> Done:
    done = project.run(before=before)
    assert (done.status, done.out) == (status, ""), done.err
    assert "Traceback" not in done.err
    return done


def _check_whole(project: Project, found: Any) -> None:
    home = project.home
    assert (found["decision"], found["version"], found["champion_version"]) == ("promoted", 1, 1)
    assert found["rows"] == {
        "new": 153,
        "accepted": 150,
        "refused": 3,
        "reasons": {"missing text": 1, "encoding damage": 1, "rare label": 1},
    }
    versions = delta_tables.read_rows(home.corpus, ["row_version"])["row_version"].to_pylist()
    assert len(versions) == len(set(versions)) == len(corpus.read_rows(home, corpus.newest_version(home))) == 150
    assert len(quarantine.list_refused(home)) == len(delta_tables.read_rows(home.quarantine)) == 3
    mlflow = store.open_client(home)
    runs = mlflow.search_runs([store.ensure_experiment(home, "tickets")])
    assert [(one.info.run_id, one.info.status) for one in runs] == [(found["run_id"], "FINISHED")]
    assert {one.path for one in mlflow.list_artifacts(found["run_id"])} >= {"data_docs", "report", "recipe.json"}
    steps = [one.step for one in mlflow.get_metric_history(found["run_id"], "loss")]
    assert steps == sorted(set(steps))
    assert [one.run_id for one in models.list_versions(home, "tickets")] == [found["run_id"]]
    events = [one["event"] for one in ledger.read_entries(home)]
    assert events == ["decision", "intent", "moved"]
    assert ledger.read_entries(home)[-1]["repaired"] is True
    assert list(home.batches.iterdir()) == []
