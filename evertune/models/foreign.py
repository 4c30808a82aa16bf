"""Adopt a bundle from elsewhere: use its weights and its card, but not its code.

A bundle contains the Python code that loads it. In this home, Evertune wrote that code; in any other folder it may be a
stranger's, and a recipe that names the folder must not run it.
"""

import contextlib
import shutil
import uuid
from pathlib import Path

from evertune.errors import ConfigError, TrainingError
from evertune.objectives import TABLE, Objective, load_objective
from evertune.records import compute_digest, file_digest
from evertune.serving import bundle
from evertune.serving.portable import base_files

PORTABLE = (*bundle.CODE, *bundle.ADAPTER_CODE, "compressed.py")


def adopt_bundle(folder: Path, root: Path) -> Path:
    """Return a bundle of the same model with Evertune's own code; a bundle in the home is returned as it is.

    Args:
        folder: the bundle.
        root: the home.
    Raises:
        ConfigError: the bundle has no readable card, or its objective is unknown.
        OSError: the disk is full or not writable.
    """
    if folder.is_relative_to(root.resolve()):
        return folder
    objective = _read_objective(folder)
    scratch = root / "foreign" / f".{uuid.uuid4().hex[:8]}"
    try:
        code = scratch / "code"
        code.mkdir(parents=True)
        (code / "__init__.py").write_text('"""Evertune\'s own code, for the bundle of a stranger."""\n')
        bundle.write_code(code, objective, PORTABLE)
        shutil.copyfile(folder / "evertune.json", scratch / "evertune.json")
        _link_files(folder / "model", scratch / "model")
        adopted = root / "foreign" / _name_bundle(folder, scratch)
        with contextlib.suppress(OSError):  # it exists already, with the same content
            scratch.rename(adopted)
        return adopted
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_objective(folder: Path) -> Objective:
    try:
        name = bundle.read_card(folder).get("objective")
    except TrainingError as error:
        raise ConfigError(str(error)) from error
    if name not in TABLE:
        raise ConfigError(f"{folder}: its objective {name!r} is unknown; known objectives: {', '.join(TABLE)}")
    return load_objective(name)


def _link_files(source: Path, target: Path) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file():
            link = target / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())


def _name_bundle(folder: Path, scratch: Path) -> str:
    """Return a name that is unique to the bundle, its weights, and Evertune's code."""
    own = [file_digest(file) for file in sorted(scratch.glob("code/**/*.py"))]
    return compute_digest(
        str(folder), base_files.compute_fingerprint(str(folder / "model")), file_digest(scratch / "evertune.json"), own
    )
