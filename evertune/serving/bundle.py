"""A model bundle: one folder with weights, tokenizer, and the code that encodes, batches and decodes.

bundle/evertune.json   the card: objective, options, precision, lineage
bundle/model/          weights (safetensors), config and tokenizer as `transformers` saves them; with `merge: false`
                       the weights are the adapter's alone, as `peft` saves them
bundle/code/           copies of the objective's file, its neighbours, inference and batching: a package that does not
                       import Evertune
"""

import ast
import hashlib
import importlib.util
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evertune.errors import TrainingError
from evertune.objectives import Objective, load_objective
from evertune.records import file_digest
from evertune.runtime.files import read_json, write_json

CODE = ("batching.py", "inference.py")
ADAPTER_CODE = ("adapters.py", "base_files.py")  # needed where the adapter is not merged


def write_bundle(folder: Path, model: Any, tokenizer: Any, objective: Objective, card: dict[str, Any]) -> str:
    """Write a bundle, whole or not at all, and return its digest.

    Args:
        card: JSON-ready facts for `evertune.json`; `Predictor` in `inference.py` reads some of them.
    Raises:
        OSError: the disk is full or not writable.
    """
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # from a process that was killed while it wrote
        shutil.rmtree(leftover)
    scratch = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        model.save_pretrained(scratch / "model")
        tokenizer.save_pretrained(scratch / "model")
        code = scratch / "code"
        code.mkdir()
        (code / "__init__.py").write_text(
            '"""The code of one Evertune model, as it was when the model was trained."""\n'
        )
        write_code(code, objective, (*CODE, *(ADAPTER_CODE if "adapter" in card else ())))
        write_json(scratch / "evertune.json", {**card, "module": objective.module.__name__})
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return compute_digest(folder)


def write_code(folder: Path, objective: Objective, portable: Sequence[str]) -> None:
    """Copy an objective's file, the neighbours that it imports, and files of `portable/` into a bundle's `code` folder.

    Args:
        portable: names of the files of `portable/`.
    Raises:
        OSError: the disk is full or not writable.
    """
    for name in portable:
        shutil.copyfile(Path(__file__).parent / "portable" / name, folder / name)
    source = Path(str(objective.module.__file__))
    shutil.copyfile(source, folder / "objective.py")
    for neighbour in find_neighbours(source):
        copy = folder / neighbour.relative_to(source.parent)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(neighbour, copy)


def find_neighbours(source: Path) -> list[Path]:
    """Return the files that an objective's file imports relatively, and those that they import in turn.

    Imports inside functions count too.
    """
    neighbours: list[Path] = []
    waiting = [source]
    while waiting:
        for neighbour in _list_relative_imports(waiting.pop()):
            if neighbour not in neighbours:
                neighbours.append(neighbour)
                waiting.append(neighbour)
    return neighbours


def _list_relative_imports(file: Path) -> list[Path]:
    """The files behind `from . import name`, `from .folder import name` and `from .folder.name import part`."""
    imported = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        module = folder.with_suffix(".py")
        if node.module and module.is_file():
            imported.append(module)
        else:
            imported += [folder / f"{alias.name}.py" for alias in node.names]
    return imported


def compute_digest(folder: Path) -> str:
    """Return a digest of the bundle's files and their names; owners and times do not count."""
    state = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            state.update(f"{file.relative_to(folder).as_posix()}:{file_digest(file)}".encode())
    return state.hexdigest()


def load_predictor(folder: Path, precision: str | None = None) -> Any:
    """Return the bundle's own `Predictor`, from the bundle's own code.

    Raises:
        TrainingError: the bundle cannot be loaded.
    """
    # Each folder has a module name of its own, so that two bundles in one process never share code.
    name = f"evertune_bundle_{hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()}"
    try:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(
                name, folder / "code" / "__init__.py", submodule_search_locations=[str(folder / "code")]
            )
            if spec is None or spec.loader is None or not (folder / "code" / "__init__.py").is_file():
                raise OSError("its folder code/ is missing")
            package = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(package)
            sys.modules[name] = package
        return importlib.import_module(f"{name}.inference").Predictor(folder, precision)
    except Exception as error:  # the bundle's code may be of any age and fail in any way
        raise TrainingError(f"the model bundle {folder} cannot be loaded: {error}") from error


def split_stages(predictor: Any) -> tuple[Callable[[Sequence[Any]], Any], Callable[[Any], list[dict[str, Any]]]]:
    """Return two functions that predict one after the other: one encodes inputs, one runs the model on them.

    A bundle made before November 2026 does both in one function; its first stage then does nothing.
    """
    if hasattr(predictor, "encode"):
        return predictor.encode, predictor.answer
    return list, predictor.predict


def read_labels(folder: Path) -> list[str]:
    """Return the labels that the model was trained on, in the order of its outputs.

    Raises:
        OSError, ValueError, KeyError: the bundle has no readable configuration.
    """
    if not load_objective(read_card(folder)["objective"]).LABELED:
        return []
    names = read_json(folder / "model" / "config.json")["id2label"]
    return [names[str(number)] for number in range(len(names))]


def read_card(folder: Path) -> dict[str, Any]:
    """Return the facts in `evertune.json`.

    Raises:
        TrainingError: the folder holds no bundle, or the card is damaged.
    """
    try:
        facts = read_json(folder / "evertune.json")
    except (OSError, ValueError) as error:
        raise TrainingError(f"the card of the model bundle {folder} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise TrainingError(f"{folder} holds no model bundle (no evertune.json)")
    return facts
