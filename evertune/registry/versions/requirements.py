"""A folder with nothing in it but a model's logged requirements and what they require."""

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
    """The requirements that a model is logged with: what its bundle imports, in the versions that are installed.

    One whose adapter is not merged also needs what brings its base.

    Args:
        compression: method of a variant.
    """
    names = [*REQUIREMENTS, *(["onnxruntime"] if compression.startswith("onnx") else [])]
    if recipe.training.needs_base:
        names += ["peft", *(["gguf"] if recipe.base_model.endswith(base_files.GGUF) else [])]
        if recipe.base_model.startswith("package:"):
            names += packages_distributions()[recipe.base_model.removeprefix("package:").partition("/")[0]][:1]
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def read_logged_requirements(model_uri: str) -> list[str]:
    """The requirements that MLflow keeps with a model.

    Raises:
        RegistryError: the model's files cannot be read.
    """
    import mlflow

    from evertune.registry.tracking.store import translate_errors

    with translate_errors(f"the requirements of {model_uri}"):
        lines = Path(mlflow.artifacts.download_artifacts(f"{model_uri}/requirements.txt")).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def link_packages(requirements: Iterable[str], folder: Path) -> None:
    """Link the installed files of the requirements, and of theirs, into `folder`: an import path of nothing else.

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
    """The files and folders that a distribution has in site-packages.

    Read from its RECORD: `files` would ask the disk for each of torch's twelve thousand.
    """
    record = package.read_text("RECORD")
    if record is None:
        return {file.parts[0] for file in package.files or []}
    return {line[0].partition("/")[0] for line in csv.reader(record.splitlines()) if line}


def resolve_packages(requirements: Iterable[str]) -> list[Distribution]:
    """The installed distributions that the requirements bring, their own requirements included.

    What only a requirement requires is left out where it is missing: importing it then fails as it would elsewhere.

    Raises:
        RegistryError: a requirement is not installed, or in another version.
    """
    from packaging.requirements import Requirement

    pending = [Requirement(line) for line in requirements]
    if problems := [problem for requirement in pending if (problem := _find_problem(requirement))]:
        raise RegistryError(f"{'; '.join(problems)}; install what the model requires, or run the recipe again")
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
    """What is wrong with the installed version of a requirement; `2.13.0+cpu` is a 2.13.0."""
    installed = _find_installed(requirement.name)
    if installed is None:
        return f"it requires {requirement}, which is not installed here"
    is_satisfied = requirement.specifier.contains(installed, prereleases=True)
    return None if is_satisfied else f"it requires {requirement}, and {installed} is installed here"


def _find_installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
