"""Evertune from Python: the functions and types that `import evertune` offers.

```python
import evertune

outcome = evertune.run("configs/support_intents.yaml")
print(outcome.decision, outcome.reason)

model = evertune.load("models:/support-intents@champion")
model.predict(["Where is my parcel?", "I was charged twice."])
```

Each function does what the command of the same name does, without printing: progress goes to the logger `evertune`
(`logging.basicConfig(level=logging.INFO)` shows it). Errors are subclasses of `evertune.errors.EvertuneError`, and each
message says what to do. All functions work in scripts and in notebooks.
"""

import contextlib
import difflib
import json
import logging
import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evertune.backtesting.record import BacktestResult, run_recorded_backtest
from evertune.config import Recipe
from evertune.config import load_recipe as _load_recipe
from evertune.errors import ConfigError, DataError, RegistryError
from evertune.records import Outcome, Scores
from evertune.runtime.environment import prepare_environment
from evertune.runtime.home import Home, find_home, home_of

if TYPE_CHECKING:
    import pandas as pd

    from evertune.objectives import Cell, Input
    from evertune.objectives.interface import ObjectiveFile
    from evertune.serving.portable.inference import Predictor

__all__ = [
    "BacktestResult",
    "Model",
    "Outcome",
    "Recipe",
    "Scores",
    "backtest",
    "history",
    "load",
    "load_recipe",
    "run",
    "score",
]

URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[1-9]\d*))")
HISTORY_COLUMNS = ("time", "event", "version", "from_version", "to_version", "who", "reason")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check every field of it.

    Example:
        ```python
        recipe = evertune.load_recipe("configs/support_intents.yaml", ["training.epochs=1"])
        recipe.training.epochs  # 1
        ```

    Args:
        path: the YAML file.
        overrides: `a.b=value` each; the value is YAML. A number in the path is a position in a list.

    Returns:
        The checked recipe.

    Raises:
        ConfigError: the file or an override is wrong; the message lists every problem.
    """
    return _load_recipe(path, _check_overrides(overrides))


def run(recipe: Recipe | str | Path, *, overrides: Sequence[str] = (), force: bool = False) -> Outcome:
    """Ingest fresh rows, fine-tune a challenger, and promote it if the evidence is there: what `evertune run` does.

    Example:
        ```python
        outcome = evertune.run("configs/support_intents.yaml", overrides=["training.epochs=1"])
        outcome.decision                      # "promoted", "held", "rejected" or "unchanged"
        outcome.metrics["test"]["accuracy"]
        outcome.report                        # path of the HTML report
        ```

    Args:
        recipe: a recipe, or the path of its YAML file.
        overrides: `a.b=value` each, where `recipe` is a path.
        force: retrain although nothing is new.

    Returns:
        How the run ended. A challenger that is not promoted is an outcome, not an error.

    Raises:
        ConfigError: the recipe or an override is wrong.
        DataError: a source cannot be read, or the contract stops the batch.
        TrainingError: the model cannot be built or trained.
        RegistryError: MLflow or Prefect does not answer, or another run of this recipe is at work.
    """
    from evertune.cli.flow_runs import run_retrain

    prepare_environment()
    if isinstance(recipe, Recipe):
        if overrides:
            raise ConfigError("overrides apply to a file: give the path of the recipe, or override it in load_recipe")
        with _logging_restored():
            return run_retrain(recipe, force=force)
    with _logging_restored():
        return run_retrain(str(recipe), _check_overrides(overrides), force=force)


def score(recipe: Recipe | str | Path, input: str | Path, output: str | Path, encoding: str | None = None) -> Scores:
    """Predict every row of a file with the champion: what `evertune score` does.

    The file may be of any size. A row that cannot be scored gets a null and a reason in the column `problem`.

    Example:
        ```python
        scores = evertune.score("configs/support_intents.yaml", "new.csv", "labelled.parquet")
        scores.rows, scores.bad
        ```

    Args:
        recipe: a recipe, or the path of its YAML file.
        input: CSV, TSV, JSON Lines or Parquet with the recipe's input columns.
        output: `.csv`, `.jsonl` or `.parquet`.
        encoding: text encoding of the input. Default: that of the recipe's files.

    Returns:
        How many rows were scored, and by which version.

    Raises:
        ConfigError: the recipe is wrong, or the output is the input or of no known format.
        DataError: the input cannot be read, or the output cannot be written.
        RegistryError: there is no champion, or it cannot be read.
    """
    from evertune.cli.flow_runs import run_score

    prepare_environment()
    loaded = _open_recipe(recipe)
    with _logging_restored():
        return run_score(loaded, str(input), str(output), encoding)


def history(recipe: Recipe | str | Path) -> "pd.DataFrame":
    """Return every decision and alias change of a model, newest last: what `evertune history` shows.

    Example:
        ```python
        events = evertune.history("configs/support_intents.yaml")
        events[events.event == "promoted"]
        ```

    Args:
        recipe: a recipe, or the path of its YAML file.

    Returns:
        A data frame with the columns `time` (UTC), `event` (a verdict such as `promoted` or `held`, or another event
            such as `moved`), `version`, `from_version` and `to_version` (for moves of the champion), `who`, `reason`.

    Raises:
        ConfigError: the recipe is wrong.
    """
    import pandas as pd

    from evertune.cli.decisions import describe_event, list_events

    loaded = _open_recipe(recipe, for_data=False)
    rows = [
        {
            "time": event["time"],
            "event": describe_event(event),
            "version": event.get("version"),
            "from_version": event.get("from"),
            "to_version": event.get("to"),
            "who": event["who"],
            "reason": event.get("held") or event.get("reason"),
        }
        for event in list_events(home_of(loaded))
    ]
    frame = pd.DataFrame(rows, columns=HISTORY_COLUMNS)
    numbers = dict.fromkeys(("version", "from_version", "to_version"), "Int64")
    return frame.assign(time=pd.to_datetime(frame["time"], utc=True)).astype(numbers)


def backtest(
    recipe: Recipe | str | Path,
    every: str = "week",
    policies: str = "never,always,gated,drift",
    start: int | None = None,
) -> BacktestResult:
    """Replay the corpus by its timestamps under several retraining policies: what `evertune backtest` does.

    Rows that no run has seen yet are ingested first. A backtest that was killed goes on where it stopped.

    Example:
        ```python
        result = evertune.backtest("configs/support_intents.yaml", every="month", policies="never,gated")
        result.recommended
        result.summaries_frame()
        ```

    Args:
        recipe: a recipe, or the path of its YAML file. It maps `data.columns.timestamp`.
        every: `day`, `week`, `month`, or a number of days such as `10 days`.
        policies: names separated by commas. `gated:4` retrains at every fourth window.
        start: windows before the first model. Default: a third of them.

    Returns:
        The steps, a summary of each policy, the recommended policy, and the path of the report.

    Raises:
        ConfigError: the recipe maps no timestamp, or a policy or `every` is unknown.
        DataError: a source cannot be read, or there are too few rows or windows.
        TrainingError: a training failed.
        RegistryError: MLflow does not answer, or another run or backtest of this recipe is at work.
    """
    prepare_environment()
    return run_recorded_backtest(_open_recipe(recipe), every, policies, start, show_line=lambda line: None)


def load(uri: str, home: str | Path | None = None) -> "Model":
    """Load a registered version, ready to predict.

    The files must be those that were registered, and that the gate and the parity check have tested.

    Example:
        ```python
        model = evertune.load("models:/support-intents@champion")
        model = evertune.load("models:/support-intents/3")
        ```

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        home: the folder of the Evertune home. Default: EVERTUNE_HOME, else the nearest `.evertune` at or above the
            working folder.

    Returns:
        The model, on the GPU if there is one.

    Raises:
        RegistryError: there is no such model, alias or version, or its files are gone or changed.
        TrainingError: the model cannot be loaded.
    """
    prepare_environment()
    from evertune.registry.versions import versions
    from evertune.serving import bundle

    match = URI.fullmatch(uri)
    if match is None:
        raise RegistryError(f"{uri!r}: write models:/NAME@champion, or models:/NAME/3 for a version")
    name = match["name"]
    root = _find_root(home)
    model_home = Home(root, name)
    names = versions.list_model_names(model_home)
    if name not in names:
        raise RegistryError(f"{uri}: no model {name} in {root}; {_suggest_model(name, names)}")
    version = _resolve_version(model_home, match)
    folder = versions.fetch_bundle(model_home, name, version)
    return Model(name, version, folder, bundle.load_predictor(folder))


@dataclass(frozen=True)
class Model:
    """A registered version that answers: see `load`.

    Args:
        name: registered name.
        version: registered version.
        folder: the bundle with weights, tokenizer and the code that predicts.
    """

    name: str
    version: int
    folder: Path
    _predictor: "Predictor" = field(repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False, init=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the model's outputs; empty where the objective has none."""
        return tuple(self._predictor.names)

    def predict(self, inputs: Iterable[object]) -> "pd.DataFrame":
        """Predict each input.

        Example:
            ```python
            model.predict(["Where is my parcel?"])                 # columns: label, score
            pairs.predict([("A man sleeps.", "A man is awake.")])  # an objective with two inputs
            pairs.predict([{"text": "A man sleeps.", "text_pair": "A man is awake."}])
            ```

        Args:
            inputs: texts; lists of words for tagging; `bytes` or `pathlib.Path` of pictures. Where the objective has
                several inputs, a tuple in their order or a mapping by their names.

        Returns:
            One row an input, in order, with the objective's outputs as columns.

        Raises:
            DataError: an input is empty or of the wrong type; the message names it, such as `inputs[3]`.
        """
        import pandas as pd

        from evertune.runtime import malloc

        objective = self._predictor.objective
        values = _check_inputs(inputs, self._predictor)
        with self._lock, malloc.keep_memory():  # a tokenizer serves one thread at a time
            predictions = self._predictor.predict(values)
        return pd.DataFrame(predictions, columns=list(objective.OUTPUTS))


@contextlib.contextmanager
def _logging_restored() -> Iterator[None]:
    """Leave the caller's logging as it was: Prefect sets up the root logger where nobody has.

    Where nobody has, only warnings are shown, as Python does.
    """
    root, library = logging.getLogger(), logging.getLogger("evertune")
    handlers, root_level, level = root.handlers[:], root.level, library.level
    if not handlers and not library.handlers and level == logging.NOTSET:
        library.setLevel(logging.WARNING)
    try:
        yield
    finally:
        library.setLevel(level)
        root.setLevel(root_level)
        root.handlers[:] = handlers


def _open_recipe(recipe: Recipe | str | Path, *, for_data: bool = True) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else _load_recipe(recipe, for_data=for_data)


def _check_overrides(overrides: Sequence[str]) -> Sequence[str]:
    if isinstance(overrides, str):
        raise ConfigError(f"overrides: give a list, such as [{overrides!r}]")
    return overrides


def _find_root(home: str | Path | None) -> Path:
    """The home folder; its MLflow store is not made where there is none.

    Raises:
        RegistryError: there is no home.
    """
    root = find_home(Path.cwd()) if home is None else Path(home).expanduser().resolve()
    if not root.is_dir() and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise RegistryError(
            f"no Evertune home at {root}; work in the project's folder, give home=..., or set EVERTUNE_HOME"
        )
    if home is not None and (root / ".evertune").is_dir() and not (root / "models").is_dir():
        raise RegistryError(f"{root} is a project; its home is home={str(root / '.evertune')!r}")
    return root


def _suggest_model(name: str, names: Sequence[str]) -> str:
    if not names:
        return "`evertune run RECIPE` trains a first one"
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"registered: {', '.join(names)}"


def _resolve_version(home: Home, match: re.Match[str]) -> int:
    from evertune.registry.versions import versions

    if match["version"]:
        return int(match["version"])
    version = versions.resolve_alias(home, match["name"], match["alias"])
    if version is None:
        name, alias = match["name"], match["alias"]
        numbers = [int(entry.version) for entry in versions.list_versions(home, name)]
        advice = f"load one by its number, such as models:/{name}/{numbers[-1]}" if numbers else "`evertune run RECIPE`"
        raise RegistryError(f"{name} has no version with the alias {alias}; {advice}")
    return version


def _check_inputs(inputs: Iterable[object], predictor: "Predictor") -> "list[Input]":
    """The inputs as the model takes them.

    Raises:
        DataError: one of them is empty, of the wrong type, or makes no sense to the objective.
    """
    from evertune.serving import scoring

    objective = cast("ObjectiveFile", predictor.objective)  # the bundle's copy of it
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
        raise DataError(f"inputs: give a list of inputs, not {_describe_value(inputs)}: predict([...])")
    if hasattr(inputs, "columns"):
        columns = list(objective.INPUTS)
        expression = f"df[{columns[0]!r}]" if len(columns) == 1 else f"df[{columns!r}].to_dict('records')"
        raise DataError(f"inputs: give the values of a data frame, not the frame itself: predict({expression})")
    values = [_check_input(value, objective, f"inputs[{index}]") for index, value in enumerate(inputs)]
    for index, problem in enumerate(scoring.make_problem_finder(predictor)(values)):
        if problem is not None:
            raise DataError(f"inputs[{index}]: {problem}")
    return values


def _check_input(value: object, objective: "ObjectiveFile", where: str) -> "Input":
    roles = objective.INPUTS
    if isinstance(value, Mapping) and set(value) == set(roles):
        value = tuple(value[role] for role in roles) if len(roles) > 1 else value[roles[0]]
    if len(roles) == 1:
        return _check_cell(value, objective.COLUMNS[roles[0]], roles[0], where)
    if not isinstance(value, tuple) or len(value) != len(roles):
        raise DataError(
            f"{where}: give a tuple ({', '.join(roles)}) or a mapping with these keys, not {_describe_value(value)}"
        )
    return tuple(
        _check_cell(cell, objective.COLUMNS[role], role, where) for cell, role in zip(value, roles, strict=True)
    )


def _check_cell(cell: object, kind: str, role: str, where: str) -> "Cell":
    from evertune.serving import scoring

    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        raise DataError(f"{where}: {role} is empty")
    if kind == "image":
        cell = _read_image(cell, role, where)
    elif kind == "strings":
        if isinstance(cell, str) or not isinstance(cell, Sequence) or not all(isinstance(word, str) for word in cell):
            raise DataError(f"{where}: {role} must be a list of words, not {_describe_value(cell)}")
        cell = list(cell)
    elif role == "prompt" and isinstance(cell, Sequence) and not isinstance(cell, (str, bytes)):
        cell = json.dumps(list(cell), ensure_ascii=False, default=str)  # the messages of a dialogue
    elif not isinstance(cell, str):
        raise DataError(f"{where}: {role} must be a string, not {_describe_value(cell)}")
    if not scoring.is_usable(cell):
        raise DataError(f"{where}: {role} is empty")
    return cast("Cell", cell)


def _read_image(cell: object, role: str, where: str) -> str | None:
    from evertune.data.sources.formats.images import parse_image

    try:
        return parse_image(cell.read_bytes() if isinstance(cell, Path) else cell)
    except OSError as error:
        raise DataError(f"{where}: {role}: {cell} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{where}: {role}: {error}; give bytes, a pathlib.Path, or base64 text") from error


def _describe_value(value: object) -> str:
    """The type of a value and, of a mapping or a tuple, what it holds."""
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(map(str, value)) or 'none'}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"
