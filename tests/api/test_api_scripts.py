"""The API in a plain script and in a running event loop, as a notebook has one: real runs of a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import Project
from tests.helpers.paths import PYTHONPATH

# No `if __name__ == "__main__"`, as people write them.
SCRIPT = """
import json, sys
import evertune

outcome = evertune.run("recipe.yaml", overrides=["training.epochs=6"])
model = evertune.load("models:/tickets@champion")
answers = model.predict(["money back twice amber", "van late doorstep"])
scores = evertune.score("recipe.yaml", "rows/a.csv", "scored.csv")
again = evertune.run("recipe.yaml", overrides=["training.epochs=6"])
facts = {
    "outcome": outcome.decision,
    "version": model.version,
    "labels": model.labels,
    "answers": answers.to_dict("list"),
    "rows": scores.rows,
    "again": again.decision,
    "history": evertune.history("recipe.yaml").event.tolist(),
}
with open("facts.json", "w") as file:
    json.dump(facts, file)
"""


def run_script(project: Project, script: str, **environment: str) -> tuple[Any, str]:
    """What the script wrote into facts.json, and all that it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
    own = {"EVERTUNE_HOME": str(project.home.root), "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    file = project.folder / "script.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=project.folder,
        env={**kept, **own, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((project.folder / "facts.json").read_text()), done.stdout + done.stderr


def check_facts(facts: Any) -> None:
    assert (facts["outcome"], facts["version"], facts["again"]) == ("promoted", 1, "unchanged")
    assert facts["labels"] == ["account", "delivery", "refund"]
    assert set(facts["answers"]) == {"label", "score"} and len(facts["answers"]["label"]) == 2
    assert facts["rows"] == 150
    assert facts["history"] == ["promoted", "moved", "unchanged"]


@pytest.mark.slow
def test_a_plain_script_runs_loads_and_scores(project: Project, tmp_path: Path) -> None:
    """With Prefect's temporary server, twice in one process."""
    facts, printed = run_script(project, SCRIPT, PREFECT_HOME=str(tmp_path / "prefect"))
    check_facts(facts)
    assert printed == ""


@pytest.mark.slow
def test_a_running_event_loop_does_the_same(project: Project) -> None:
    body = "\n".join(f"    {line}" for line in SCRIPT.splitlines())
    script = f"import asyncio\nasync def main():\n{body}\nasyncio.run(main())\n"
    facts, _ = run_script(project, script, PREFECT_API_URL=project.server)
    check_facts(facts)
