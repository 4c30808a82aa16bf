"""What the import contracts of `pyproject.toml` cannot say: effects of an import, `Raises` in docstrings, no prints."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for folder in ("evertune", "tasks", "flows")
    for file in sorted((ROOT / folder).rglob("*.py"))
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


def breaches(modules: list[str], *forbidden: str, nested: bool = True, types: bool = True) -> dict[str, list[str]]:
    hits = {
        name: sorted(part for part in imports(name, nested=nested, types=types) if within(part, *forbidden))
        for name in modules
    }
    return {name: parts for name, parts in hits.items() if parts}


LIBRARY = [name for name in FILES if within(name, "evertune") and not within(name, "evertune.cli", "evertune.__main__")]


def test_an_objective_stands_alone() -> None:
    from evertune.objectives import TABLE, load_objective
    from evertune.serving.bundle import find_neighbours

    names = {file: name for name, file in FILES.items()}
    for objective in map(load_objective, TABLE):
        file = Path(str(objective.module.__file__))
        travelling = {names[one] for one in (file, *find_neighbours(file))}
        for name in travelling:
            imported = {one for one in imports(name, nested=False, types=False) if within(one, "evertune")}
            assert all(within(one, *travelling) for one in imported), (name, imported)
    assert breaches(["evertune.serving.portable.batching"], "evertune", types=False) == {}
    scoring = "evertune.objectives.shared.scoring"
    assert breaches([scoring], "evertune", types=False) == {scoring: ["evertune.objectives.shared.types.Floats"]}
    beside = [
        "evertune.serving.portable.adapters",
        "evertune.serving.portable.base_files",
        "evertune.serving.portable.batching.by_length",
    ]
    assert breaches(["evertune.serving.portable.inference"], "evertune") == {
        "evertune.serving.portable.inference": beside
    }
    assert breaches(["evertune.serving.portable.adapters", "evertune.serving.portable.base_files"], "evertune") == {}


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


@pytest.mark.process
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
    home = tmp_path / "home"
    here = tmp_path / "here"
    home.mkdir()
    here.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("HOME", "PREFECT_HOME", "EVERTUNE_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
            patch.setenv(variable, str(home))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        said = python(program, here, json.dumps(names))
    assert json.loads(said.splitlines()[-1]) == [True, True, True, []]
