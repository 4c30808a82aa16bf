"""A model's requirements, and a folder of packages with only these and their own requirements."""

import contextlib
import csv
import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import RegistryError
from evertune.serving.portable import base_files

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from evertune.config import Recipe

REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "tokenizers", "torch", "transformers")


def list_requirements(recipe: "Recipe", compression: str = "") -> list[str]:
    """Return the requirements to log a model with: what its bundle imports, in the installed versions.

    A model with an unmerged adapter also needs the package of its base model.

    Args:
        compression: method of a compressed variant; empty for other models.
    """
    names = [*REQUIREMENTS, *(["onnxruntime"] if compression.startswith("onnx") else [])]
    if recipe.training.needs_base:
        names += ["peft", *(["gguf"] if recipe.base_model.endswith(base_files.GGUF) else [])]
        if recipe.base_model.startswith("package:"):
            names += packages_distributions()[recipe.base_model.removeprefix("package:").partition("/")[0]][:1]
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def read_logged_requirements(model_uri: str) -> list[str]:
    """Return the requirements that a model was logged with.

    Raises:
        RegistryError: the model's files cannot be read.
    """
    import mlflow

    from evertune.registry.tracking.store import translate_errors

    with translate_errors(f"the requirements of {model_uri}"):
        lines = Path(mlflow.artifacts.download_artifacts(f"{model_uri}/requirements.txt")).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def link_packages(requirements: Iterable[str], folder: Path) -> None:
    """Link the installed packages of the requirements, and of their requirements, into a new folder.

    Args:
        folder: becomes an import path with nothing else.

    Raises:
        RegistryError: a requirement is not installed, or in another version.
    """
    folder.mkdir(parents=True)
    for package in resolve_packages(requirements):
        for name in _list_top_names(package) - {"..", "__pycache__"}:
            target = Path(str(package.locate_file(name)))
            if target.suffix != ".pth" and target.exists() and not (folder / name).exists():
                (folder / name).symlink_to(target.resolve())


def _list_top_names(package: Distribution) -> set[str]:
    """Return the top-level files and folders that a distribution has in site-packages.

    They are read from its RECORD: `files` would check each of torch's twelve thousand files on the disk.
    """
    record = package.read_text("RECORD")
    if record is None:
        return {file.parts[0] for file in package.files or []}
    return {line[0].partition("/")[0] for line in csv.reader(record.splitlines()) if line}


def resolve_packages(requirements: Iterable[str]) -> list[Distribution]:
    """Return the installed distributions of the requirements and of their own requirements.

    A missing requirement of a requirement is left out: importing it fails as it would elsewhere.

    Raises:
        RegistryError: a requirement is not installed, or in another version.
    """
    from packaging.requirements import Requirement

    pending = [Requirement(line) for line in requirements]
    problems = list(filter(None, map(_find_problem, pending)))
    if problems:
        raise RegistryError(f"{'; '.join(problems)}; install the requirements of the model, or run the recipe again")
    packages: dict[str, Distribution] = {}
    while pending:
        requirement = pending.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in packages:
            continue
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = distribution(requirement.name)
            needs = [Requirement(line) for line in packages[name].requires or []]
            pending += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return list(packages.values())


def _find_problem(requirement: "Requirement") -> str | None:
    """Return what is wrong with the installed version of a requirement; `2.13.0+cpu` counts as 2.13.0."""
    installed = _find_installed(requirement.name)
    if installed is None:
        return f"the model requires {requirement}, which is not installed"
    is_satisfied = requirement.specifier.contains(installed, prereleases=True)
    return None if is_satisfied else f"the model requires {requirement}, but {installed} is installed"


def _find_installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
