"""What a run spends beside its work: what it imports, when, and what it leaves to look through at its end."""

import json

import pytest
from cli_helpers import Project

HEAVY = ("torch", "transformers", "mlflow", "great_expectations", "prefect", "pandas", "matplotlib")
# Tells at the process's end which of the heavy libraries it imported, and what its last collection leaves alone.
TELLING = f"""
import atexit, gc, json, sys
def tell():
    found = [name for name in {HEAVY} if name in sys.modules]
    print(json.dumps([found, gc.get_freeze_count() > 0]), file=open("told.json", "w"))
atexit.register(tell)
"""


def told(project: Project) -> tuple[set[str], bool]:
    """What a run imported, and whether its end was spared the looking through."""
    done = project.run(before=TELLING)
    assert done.status == 0, done.err
    imported, frozen = json.loads((project.folder / "told.json").read_text())
    return set(imported), frozen


@pytest.mark.slow
def test_a_flow_whose_steps_are_done_imports_no_torch(project: Project) -> None:
    project.run(before="import tasks.conclude as one\none._record = kill")  # dies when all but the report is done
    imported, frozen = told(project)
    assert "prefect" in imported
    assert not imported & {"torch", "transformers"}
    assert frozen


@pytest.mark.slow
def test_nothing_new_imports_nothing_large(project: Project) -> None:
    assert project.run().status == 0
    imported, frozen = told(project)
    assert imported == set()
    assert frozen
