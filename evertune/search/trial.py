"""A trial: trained on the snapshot's train rows, scored on its validation rows, given up where others are better."""

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune import training
from evertune.config import Plan, Recipe
from evertune.config.search import short, told
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import ConfigError, DataError, SettingsError
from evertune.objectives import module
from evertune.records import Snapshot, Tokens
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import searches
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.search.study import Study, Taken
from evertune.tokenization import tokenize as tokenization

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)
NEEDED = ("row_version", "batch", "part", "split", "component")
SEEN = ("train", "validation")  # splits that a trial sees: the test rows stay sealed
FRESH = {"train_on": "all", "start_from": "base"}  # trials do not depend on a champion


class Trials:
    """What the trials of a search have in common.

    Args:
        snapshot: of the corpus; run_id: of the search, in MLflow.
        teachers: folder of each that a trial may have, by what the recipe calls it.
    """

    def __init__(
        self, plan: Plan, home: Home, snapshot: Snapshot, study: Study, run_id: str, teachers: Mapping[str, Path]
    ) -> None:
        self._plan, self._home, self._snapshot, self._study, self._run_id = plan, home, snapshot, study, run_id
        self._teachers = teachers
        self._rows = rows_of(plan.recipe, home, snapshot)
        self._encoded: dict[str, tuple[Tokens, Any]] = {}

    def run(self, taken: Taken) -> None:
        """Train, or go on with a training that was cut off, and tell the study and MLflow how it ended.

        Raises:
            ConfigError: all trials that have ended came to nothing for one and the same, whatever their values.
            DataError: too little to learn from.
            TrainingError: it failed for a reason that is not in the values that were tried.
            RegistryError: MLflow does not answer.
        """
        import optuna

        folder = self._study.place(taken.number).model
        brief = short(taken.values)
        words = {path: told(value) for path, value in taken.values.items()}
        logger.info("trial %d: %s", taken.number, ", ".join(f"{brief[path]} {text}" for path, text in words.items()))
        run = searches.trial(self._plan.recipe, self._home, self._run_id, folder, taken.number, words)
        state, why, value, misfit = "complete", None, None, False
        with tracking.failing(self._home, run.run_id):
            try:
                self._train(taken, folder, run)
            except optuna.TrialPruned:
                state = "pruned"
            except (ConfigError, SettingsError) as error:
                state, why, misfit = "pruned", " ".join(str(error).split()), isinstance(error, ConfigError)
            value = self._value(folder, state)
            if state == "complete" and value is None:
                state, why = "pruned", f"{self._plan.recipe.metric} has no value"
            searches.end_trial(self._home, run, state, value, why)
        if state == "complete" and value is not None:
            self._study.complete(taken, value)
        else:
            self._study.prune(taken, why)
        if misfit and why is not None and self._study.alike(why):
            raise ConfigError(f"{why} (the same in all {len(self._study.trials())} trials, whatever their values)")

    def _train(self, taken: Taken, folder: Path, run: tracking.Run) -> None:
        recipe = without_champion(self._plan.recipe_of(taken.values))
        tokens, encoded = self._tokens(recipe)
        name = f"eval_{recipe.metric}"

        def log(metrics: Mapping[str, float], step: int) -> None:
            run.log(metrics, step)
            if math.isfinite(value := metrics.get(name, math.nan)):
                self._study.report(taken, value, step / _steps(folder))

        rule = recipe.training.distill
        training.finetune(
            recipe, self._study.place(taken.number), tokens, encoded, self._rows, run_id=run.run_id, folder=folder,
            log=log, teacher=None if rule is None else self._teachers[rule.teacher],
        )  # fmt: skip

    def _tokens(self, recipe: Recipe) -> tuple[Tokens, Any]:
        """The rows as this recipe encodes them, once in this process."""
        key = tokenization.fingerprint(recipe)
        if key not in self._encoded:
            tokens = tokenized(recipe, self._home, self._snapshot, self._rows)
            self._encoded[key] = tokens, tokenization.load(tokens, self._rows)
        return self._encoded[key]

    def _value(self, folder: Path, state: str) -> float | None:
        """The metric of the model that the training gave, that of its best validation; else the last that is known."""
        name = f"eval_{self._plan.recipe.metric}"
        found: list[float] = [one[name] for one in tracking.history(folder) if math.isfinite(one.get(name, math.nan))]
        if not found:
            return None
        return found[-1] if state != "complete" else min(found) if self._study.falls else max(found)

    def clean(self) -> None:
        """Remove what the trials that have ended left behind, but for the best one's model."""
        best = self._study.best()
        for one in self._study.trials():
            folder = self._study.place(one.number).model
            if one.state != "running":
                spare = ("checkpoints", "processes", *(["bundle"] if best is None or one.number != best.number else []))
                for name in spare:
                    shutil.rmtree(folder / name, ignore_errors=True)


def rows_of(recipe: Recipe, home: Home, snapshot: Snapshot) -> "pa.Table":
    """The train and validation rows of a snapshot with inputs and targets; no other.

    Raises:
        DataError: there are no validation rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [*NEEDED, *module(recipe.objective.type).COLUMNS]
    rows = splits.apart(corpus.rows(home, snapshot.version, columns), recipe.data.split)
    rows = rows.filter(pc.is_in(rows["split"], value_set=pa.array(SEEN)))
    if not pc.any(pc.equal(rows["split"], "validation")).as_py():
        raise DataError(
            "there are no validation rows to compare trials on; give data.split.validation a share, or add rows"
        )
    return relabel.rows(rows, recipe)


def tokenized(recipe: Recipe, home: Home, snapshot: Snapshot, rows: "pa.Table") -> Tokens:
    """The token data set of the rows that trials see.

    Raises:
        ConfigError, DataError: see `tokenization.tokenize`.
    """
    counts = {split: snapshot.rows.get(split, 0) for split in SEEN}
    return tokenization.tokenize(recipe, home, replace(snapshot, rows=counts), rows)


def without_champion(recipe: Recipe) -> Recipe:
    """The recipe as trials train it: from the base, on all train rows."""
    fresh = recipe.data.fresh.model_copy(update=FRESH)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"fresh": fresh})})


def _steps(folder: Path) -> int:
    """Steps of the whole training, which each checkpoint knows."""
    states = (folder / "checkpoints").glob("checkpoint-*/trainer_state.json")
    return max(int(read_json(one)["max_steps"]) for one in states)
