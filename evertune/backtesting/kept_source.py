"""Models that an earlier backtest trained and scored: what a gate is tried on, in seconds and without any model."""

from pathlib import Path

from evertune.backtesting.kept_scores import KeptHistory, KeptModel, list_models, load_history
from evertune.errors import DataError


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
