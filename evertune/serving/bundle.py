"""A model bundle: one folder with weights, tokenizer, and the very code that encodes, batches and decodes.

bundle/evertune.json   what it is: objective, options, precision, lineage
bundle/model/          weights (safetensors), config and tokenizer, as `transformers` saves them; with `merge: false`
                       those of the adapter alone, as `peft` saves them
bundle/code/           copies of objective, its neighbours, inference and batching: a package that imports no Evertune
"""

import hashlib
import importlib.util
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from evertune.errors import TrainingError
from evertune.objectives import load_objective
from evertune.records import file_digest
from evertune.runtime.files import read_json, write_json

CODE = ("batching.py", "inference.py")
ADAPTER_CODE = ("adapters.py", "base_files.py")  # where the adapter is not merged


def write_bundle(folder: Path, model: Any, tokenizer: Any, objective: ModuleType, card: dict[str, Any]) -> str:
    """Write a bundle, whole or not at all, and return its digest.

    Args:
        card: JSON-ready facts for `evertune.json`; see `Predictor` in `inference.py` for those that it reads.
    Raises:
        OSError: the disk is full or not writable.
    """
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed while it wrote
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
        write_json(scratch / "evertune.json", {**card, "module": objective.__name__})
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return compute_digest(folder)


def write_code(folder: Path, objective: ModuleType, portable: Sequence[str]) -> None:
    """Copy an objective, the neighbours that it imports, and files of `portable/` into a bundle's `code` folder.

    Raises:
        OSError: the disk is full or not writable.
    """
    for name in portable:
        shutil.copyfile(Path(__file__).parent / "portable" / name, folder / name)
    source = Path(str(objective.__file__))
    shutil.copyfile(source, folder / "objective.py")
    for name in objective.TRAVELS_WITH:
        file = Path(*name.split(".")).with_suffix(".py")
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source.parent / file, folder / file)


def compute_digest(folder: Path) -> str:
    """A digest over the bundle's files and their names, whoever owns or copied them."""
    state = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            state.update(f"{file.relative_to(folder).as_posix()}:{file_digest(file)}".encode())
    return state.hexdigest()


def load_predictor(folder: Path, precision: str | None = None) -> Any:
    """The bundle's own `Predictor`, from the bundle's own code.

    Raises:
        TrainingError: the bundle cannot be loaded.
    """
    # A name of its own for each folder: two bundles in one process never share a module.
    name = f"evertune_bundle_{hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()}"
    try:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(
                name, folder / "code" / "__init__.py", submodule_search_locations=[str(folder / "code")]
            )
            if spec is None or spec.loader is None or not (folder / "code" / "__init__.py").is_file():
                raise OSError("its code is missing")
            package = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(package)
            sys.modules[name] = package
        return importlib.import_module(f"{name}.inference").Predictor(folder, precision)
    except Exception as error:  # the bundle's code may be of any age, and fail in any way
        raise TrainingError(f"the model bundle {folder} cannot be loaded: {error}") from error


def split_stages(predictor: Any) -> tuple[Callable[[Sequence[Any]], Any], Callable[[Any], list[dict[str, Any]]]]:
    """Two functions that predict one after the other: what encodes inputs, and what the model says of those.

    The code of a bundle made before November 2026 does both in one: there the first does nothing.
    """
    if hasattr(predictor, "encode"):
        return predictor.encode, predictor.answer
    return list, predictor.predict


def read_labels(folder: Path) -> list[str]:
    """The labels that the model was taught, in the order of its outputs.

    Raises:
        OSError, ValueError, KeyError: it has no configuration that can be read.
    """
    if not load_objective(read_card(folder)["objective"]).LABELED:
        return []
    names = read_json(folder / "model" / "config.json")["id2label"]
    return [names[str(number)] for number in range(len(names))]


def read_card(folder: Path) -> dict[str, Any]:
    """The facts in `evertune.json`.

    Raises:
        TrainingError: there is no bundle in the folder, or its card is damaged.
    """
    try:
        facts = read_json(folder / "evertune.json")
    except (OSError, ValueError) as error:
        raise TrainingError(f"the card of the model bundle {folder} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise TrainingError(f"{folder} holds no model bundle (no evertune.json)")
    return facts
