"""Models that an earlier backtest trained and scored: what a gate is tried on, in seconds and without any model."""

from pathlib import Path

from evertune.backtesting.kept_scores import HISTORY, KeptHistory, KeptModel, list_models, load_history
from evertune.config import Recipe
from evertune.errors import DataError
from evertune.records import dump_settings, to_plain
from evertune.runs import up_to_date
from evertune.runtime.context import RunContext

COMPARISON = ("gate", "slices", "bootstrap")  # parts of `evaluation` that only compare models


def describe_settings(recipe: Recipe) -> dict[str, object]:
    """Return the settings that decide what the models of a backtest are, and not how they are compared."""
    settings = dump_settings(recipe, *(name for name in up_to_date.OUTSIDE if name != "contract"))
    evaluation = settings.get("evaluation", {})
    for name in COMPARISON:
        evaluation.pop(name, None)
    settings["metric"] = recipe.metric
    settings["robustness"] = bool(recipe.evaluation.gate.robustness)
    return settings


def find_kept_backtest(context: RunContext) -> Path:
    """Return the folder of the scores of the newest backtest of this recipe.

    Raises:
        DataError: there is none, or all that there are belong to other settings.
    """
    folders = sorted(
        (path.parent for path in (context.home.model / "backtests").glob(f"*/scores/{HISTORY}")),
        key=lambda folder: (folder / HISTORY).stat().st_mtime,
        reverse=True,
    )
    wanted = to_plain(describe_settings(context.recipe))
    changes: list[str] = []
    for folder in folders:
        history = load_history(folder)
        if history is None:
            continue
        kept = history.settings.get("settings")
        if kept == wanted:
            return folder
        changes = changes or list_changes(kept, wanted)
    if changes:
        raise DataError(
            f"the kept backtest of {context.recipe.name} trained other models: {', '.join(changes)} differ; "
            "run `evertune backtest` again"
        )
    raise DataError(f"no backtest of {context.recipe.name} is kept; run `evertune backtest` first")


def list_changes(kept: object, wanted: object, path: str = "") -> list[str]:
    """Return the dotted keys in which two settings differ."""
    if not isinstance(kept, dict) or not isinstance(wanted, dict):
        return [] if kept == wanted else [path or "all settings"]
    keys = dict.fromkeys([*kept, *wanted])
    return [
        change
        for key in keys
        for change in list_changes(kept.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
    ]


class KeptSource:
    """The kept rows and models of a backtest.

    Args:
        folder: of the scores.
    Raises:
        DataError: there are none, or they are damaged.
    """

    def __init__(self, folder: Path) -> None:
        history = load_history(folder)
        if history is None:
            raise DataError(f"{folder} holds no kept backtest, or a damaged one; run `evertune backtest` again")
        self._history = history
        self._models: dict[int, list[KeptModel]] = {}
        for model in list_models(folder):
            self._models.setdefault(model.window, []).append(model)

    @property
    def models(self) -> list[KeptModel]:
        """All models, the earliest first."""
        return [model for models in self._models.values() for model in models]

    @property
    def history(self) -> KeptHistory:
        """The rows."""
        return self._history

    @property
    def first(self) -> int:
        """Number of the window at whose end the first model was trained."""
        return int(str(self._history.settings["first"]))

    def obtain_model(self, window: int, champion: KeptModel | None) -> KeptModel:
        """Return the model that was trained at the end of a window.

        Raises:
            DataError: no backtest has trained it: training depends on the champion, and no policy had this one.
        """
        models = self._models.get(window, [])
        if any(model.parent for model in models):
            parent = champion.name if champion is not None else ""
            models = [model for model in models if model.parent == parent]
        if not models:
            raise DataError(
                f"window {window}: no kept model was trained from this champion; a recipe whose training starts from "
                "the champion needs `evertune backtest RECIPE --gates ...`, which trains it"
            )
        return models[-1]

    def measure_drift(self, champion: KeptModel, after: int, until: int) -> float | None:
        """Not kept: the policy `drift` looks at the models themselves.

        Raises:
            DataError: always.
        """
        raise DataError("the policy `drift` needs the models themselves; run `evertune backtest`")

    def explain_missing_rows(self, window: int, champion: KeptModel) -> str:
        """Return why no model was trained at the end of a window; empty if there is one."""
        return "" if self._models.get(window) else "no model was trained at the end of this window"
