"""The house as DESIGN draws it: who imports whom, what happens on import, how long functions and files may be."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for folder in ("evertune", "tasks", "flows")
    for file in sorted((ROOT / folder).rglob("*.py"))
}
STEPS = frozenset(
    "sources corpus contract splits tokenization training evaluation gate registry report".split(),
)
# The only steps that use another, and why; everything else reads its input from the records that it is given.
STEP_USES_STEP = {("training", "tokenization"): "the tokenizer that encoded the rows is bundled with the model"}
# What joins steps into one act. No step may import it, directly or through others.
COMPOSERS = {
    "admission": {"contract", "corpus", "splits"},  # a staged batch into the corpus: the validate step, and a release
    "quarantine": {"contract", "corpus", "sources"},  # mended rows are read, and take the same road
    "preview": {"contract", "sources", "splits", "tokenization"},  # `evertune check` shows rows before anything is kept
    "inspect": {"contract", "sources"},  # `evertune new` asks the contract that it writes what it refuses
    "backtest": {"corpus", "evaluation", "gate", "splits", "tokenization", "training"},  # many runs, in a world apart
    "search": {"corpus", "registry", "report", "splits", "tokenization", "training"},  # many trainings, one result
    "monitoring": {"corpus", "sources", "splits"},  # the rows of both sides, and what those of a file are near
    "reproduction": {"corpus", "evaluation", "registry", "splits", "tokenization", "training"},  # a run from its record
    "origins": {"corpus", "registry"},  # what the report tells of a run's rows, and what the run noted of itself
    "tracing": {"corpus", "registry"},  # from a version back to its rows
    "forgetting": {"corpus", "registry"},  # rows out of the tables, and the versions that have seen them
    "cleaning": {"corpus", "registry", "tokenization"},  # what nobody needs any more, wherever it lies
    "compression": {"corpus", "evaluation", "registry", "splits"},  # a variant beside its original, on the same rows
    "challenge": {"gate"},  # the evidence on disk, for the gate that knows no disk
}
# Run by MLflow and by the parity check in processes of their own.
SCRIPTS = ("evertune.registry.versions.pyfunc_model", "evertune.registry.versions.parity_process")
HEAVY = ("torch", "transformers", "mlflow", "great_expectations", "datasets", "prefect", "pandas", "pyarrow", "sklearn")


def imports(name: str, *, nested: bool = True, types: bool = True) -> set[str]:
    """What a module imports, `from a import b` as `a.b`.

    Args:
        nested: those inside functions too; types: those under TYPE_CHECKING too.
    """
    found = set()
    for node in _nodes(ast.parse(FILES[name].read_text(encoding="utf-8")), nested, types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def _nodes(tree: ast.AST, nested: bool, types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            continue
        yield node
        if nested or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _nodes(node, nested, types)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def breaches(modules: list[str], *forbidden: str, nested: bool = True) -> dict[str, list[str]]:
    found = {name: sorted(one for one in imports(name, nested=nested) if within(one, *forbidden)) for name in modules}
    return {name: hits for name, hits in found.items() if hits}


def part(name: str) -> str:
    """`evertune.training.trainer` -> `training`; empty for what is not of the library."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "evertune" and len(pieces) > 1 else ""


@cache
def parts_imported(one: str) -> frozenset[str]:
    """The parts of the library that a part imports when it runs."""
    modules = [name for name in FILES if part(name) == one]
    found = {part(hit) for name in modules for hit in imports(name, types=False)}
    return frozenset(found & {part(name) for name in FILES} - {one, ""})


def reached(step: str) -> set[str]:
    """The other steps and composers that a step gets at, through helpers too."""
    met: set[str] = set()
    waiting = [step]
    while waiting:
        for one in parts_imported(waiting.pop()) - met - {step}:
            met.add(one)
            if one not in STEPS and one not in COMPOSERS:
                waiting.append(one)
    return met & (STEPS | COMPOSERS.keys())


LIBRARY = [name for name in FILES if within(name, "evertune") and not within(name, "evertune.cli", "evertune.__main__")]


def test_the_library_knows_neither_prefect_nor_tasks_nor_flows() -> None:
    assert breaches(LIBRARY, "prefect", "tasks", "flows", "evertune.cli") == {}


def test_tasks_know_no_flow_and_no_command() -> None:
    assert breaches([name for name in FILES if within(name, "tasks")], "flows", "evertune.cli") == {}
    assert breaches([name for name in FILES if within(name, "flows")], "evertune.cli") == {}


def test_only_the_registry_imports_mlflow() -> None:
    assert breaches([name for name in FILES if not within(name, "evertune.registry")], "mlflow") == {}


def test_an_objective_stands_alone() -> None:
    from evertune.objectives import TABLE, module

    neighbours = {f"evertune.objectives.{one}" for name in TABLE for one in module(name).TRAVELS_WITH}
    files = {*TABLE.values(), *neighbours, "evertune.objectives.shared.scoring", "evertune.serving.portable.batching"}
    used = {name: {one for one in imports(name, nested=False) if within(one, "evertune")} for name in files}
    for name, found in used.items():  # and what it imports travels with it
        mine = [one for one in TABLE if TABLE[one] == name]
        beside = {f"evertune.objectives.{one}" for which in mine for one in module(which).TRAVELS_WITH}
        assert all(within(one, *(beside if mine else neighbours)) for one in found), (name, found)
    beside = [
        "evertune.serving.portable.adapters",
        "evertune.serving.portable.base_files",
        "evertune.serving.portable.batching.by_length",
    ]
    assert breaches(["evertune.serving.portable.inference"], "evertune") == {
        "evertune.serving.portable.inference": beside
    }
    assert breaches(["evertune.serving.portable.adapters", "evertune.serving.portable.base_files"], "evertune") == {}


@pytest.mark.parametrize("step", sorted(STEPS))
def test_a_step_imports_no_other_step(step: str) -> None:
    allowed = {used for user, used in STEP_USES_STEP if user == step}
    assert reached(step) == allowed


def test_composers_join_the_steps_that_the_table_names() -> None:
    assert {name: set(parts_imported(name) & STEPS) for name in COMPOSERS} == COMPOSERS


def functions() -> Iterator[tuple[str, int]]:
    for name, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{name}.{node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_functions_have_at_most_40_lines() -> None:
    assert {name: lines for name, lines in functions() if lines > 40} == {}


def test_files_have_at_most_300_lines() -> None:
    folders = ("evertune", "tasks", "flows", "tests", "benchmarks", "docs")
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}


def test_public_functions_say_what_they_raise() -> None:
    silent = [
        f"{name}.{node.name}"
        for name in LIBRARY
        if not within(name, "evertune.cli")  # there a docstring is the help text
        for node in ast.parse(FILES[name].read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if any(isinstance(part, ast.Raise) and part.exc for part in ast.walk(node))
        if "Raises:" not in (ast.get_docstring(node) or "")
    ]
    assert silent == []


def test_the_library_prints_nothing() -> None:
    calls = [
        name
        for name in LIBRARY
        for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert calls == []


def python(program: str, folder: Path, *arguments: str) -> str:
    """What a fresh interpreter prints that runs `program` in `folder`."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout


@pytest.mark.parametrize("module", ["evertune", "evertune.config", "evertune.cli"])
def test_nothing_heavy_is_imported_with(module: str, tmp_path: Path) -> None:
    loaded = python(f"import {module}\nprint(*sys.modules)", tmp_path).split()
    assert [name for name in HEAVY if name in loaded] == []


def test_only_what_computes_with_heavy_libraries_imports_them_at_its_top() -> None:
    networks = [name for name in LIBRARY if name.endswith("_network")]  # imported where a model is built or loaded
    light = [
        name
        for name in LIBRARY
        if not within(name, "evertune.training", "evertune.training.kernels", *networks, *SCRIPTS)
    ]
    found = {
        name: sorted(one for one in imports(name, nested=False, types=False) if within(one, *HEAVY)) for name in light
    }
    assert {name: hits for name, hits in found.items() if hits} == {}


@pytest.mark.slow
def test_importing_everything_makes_no_file_and_no_thread(tmp_path: Path) -> None:
    # `pyfunc_model` is a script that MLflow runs; `__main__` is the command.
    names = [name for name in FILES if name not in ("evertune.registry.versions.pyfunc_model", "evertune.__main__")]
    program = (
        "import importlib, json, os, threading\n"
        "names, home = json.loads(sys.argv[1]), os.environ['HOME']\n"
        "importlib.import_module('prefect'), importlib.import_module('transformers').Trainer  # these do as they like\n"
        "before = set(threading.enumerate()), set(os.listdir(home)), dict(os.environ), set(os.listdir('.'))\n"
        "for name in names: importlib.import_module(name)\n"
        "after = set(threading.enumerate()), set(os.listdir(home)), dict(os.environ), set(os.listdir('.'))\n"
        "print(json.dumps([before[0] == after[0], before[1] == after[1], before[2] == after[2], sorted(after[3])]))\n"
    )
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("HOME", "PREFECT_HOME", "EVERTUNE_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
            patch.setenv(variable, str(home))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        said = python(program, here, json.dumps(names))
    assert json.loads(said.splitlines()[-1]) == [True, True, True, []]
