"""Run by `parity.check` in a process of its own: load a registered model as a stranger would, predict, write JSON.

Modules that belong to no logged requirement cannot be imported here, Evertune least of all: a model that works only beside
what happens to be installed fails now, not at the customer's.
"""

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any


def closure(requirements: list[str]) -> set[str]:
    """Normalised names of the distributions that the requirements bring, their own requirements included."""
    found: set[str] = set()
    todo = [normal(re.split(r"[\s<>=!~\[;(]", one, maxsplit=1)[0]) for one in requirements]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        todo += [normal(re.split(r"[\s<>=!~\[;(]", one, maxsplit=1)[0]) for one in needs if "extra ==" not in one]
    return found


def normal(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Wall:
    """A finder that refuses every installed module outside the allowed distributions."""

    def __init__(self, allowed: set[str]) -> None:
        owners = packages_distributions()
        self._refused = {
            module for module, names in owners.items() if not {normal(name) for name in names} & allowed
        } | {"evertune", "flows", "tasks"}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise where the module is refused, else leave it to the other finders."""
        if name.partition(".")[0] in self._refused:
            raise ModuleNotFoundError(f"{name} is not among the model's logged requirements", name=name)


def main(tracking_uri: str, model_uri: str, sample: str, answer: str) -> None:
    """Predict the sample's inputs with the registered model."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    requirements = Path(mlflow.artifacts.download_artifacts(f"{model_uri}/requirements.txt")).read_text().splitlines()
    sys.meta_path.insert(0, Wall(closure(requirements)))  # type: ignore[arg-type]
    model = mlflow.pyfunc.load_model(model_uri)
    import pandas as pd

    given = json.loads(Path(sample).read_text(encoding="utf-8"))
    found = model.predict(pd.DataFrame({given["role"]: given["inputs"]}))
    Path(answer).write_text(json.dumps(found.to_dict("records")), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
