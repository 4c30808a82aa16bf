"""A folder with nothing in it but a model's logged requirements and what they require."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path


def logged(model_uri: str) -> list[str]:
    """The requirements that MLflow keeps with a model.

    Raises:
        RegistryError: the model's files cannot be read.
    """
    import mlflow

    from evertune.registry.store import said

    with said(f"the requirements of {model_uri}"):
        lines = Path(mlflow.artifacts.download_artifacts(f"{model_uri}/requirements.txt")).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def link(requirements: list[str], folder: Path) -> None:
    """Link the installed files of the requirements, and of theirs, into `folder`: an import path of nothing else."""
    folder.mkdir(parents=True)
    for found in closure(requirements):
        for name in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            target = Path(str(found.locate_file(name)))
            if target.suffix != ".pth" and target.exists() and not (folder / name).exists():
                (folder / name).symlink_to(target.resolve())


def closure(requirements: list[str]) -> list[Distribution]:
    """The installed distributions that the requirements bring, their own requirements included.

    A requirement that is not installed is left out: importing it then fails as it would elsewhere.
    """
    from packaging.requirements import Requirement

    found: dict[str, Distribution] = {}
    todo = [Requirement(line) for line in requirements]
    while todo:
        wanted = todo.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(wanted.name)
        except PackageNotFoundError:
            continue
        needs = [Requirement(line) for line in found[name].requires or []]
        todo += [one for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    return list(found.values())
