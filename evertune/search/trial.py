"""Run a trial: train on the train rows, score on the validation rows, stop early if other trials are better."""

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evertune import training
from evertune.config import Plan, Recipe
from evertune.config.search import format_value, shorten_paths
from evertune.data import label_names
from evertune.data.corpus import transactions
from evertune.data.splits import assign
from evertune.errors import ConfigError, DataError, SettingsError
from evertune.records import Snapshot, Tokens
from evertune.registry.tracking import runs, searches
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.search.study import Claim, Study
from evertune.tokenization import tokenize

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

logger = logging.getLogger(__name__)
NEEDED = ("row_version", "batch", "part", "split", "component")
SEEN = ("train", "validation")  # splits that trials see: the test rows stay sealed
FRESH = {"train_on": "all", "start_from": "base"}  # trials do not depend on a champion


class Trials:
    """What the trials of a search have in common.

    Args:
        plan: of the search.
        home: of the recipe.
        snapshot: of the corpus.
        study: of the search.
        run_id: of the search's run in MLflow.
        teachers: teacher as the recipe names it -> its folder.
    """

    def __init__(
        self, plan: Plan, home: Home, snapshot: Snapshot, study: Study, run_id: str, teachers: Mapping[str, Path]
    ) -> None:
        self._plan = plan
        self._home = home
        self._snapshot = snapshot
        self._study = study
        self._run_id = run_id
        self._teachers = teachers
        self._rows = read_seen_rows(RunContext(plan.recipe, home), snapshot)
        self._encoded: dict[str, tuple[Tokens, datasets.Dataset]] = {}

    def run_trial(self, claim: Claim) -> None:
        """Train, or resume an interrupted training, and report to the study and MLflow how it ended.

        Raises:
            ConfigError: all trials that have ended failed for the same reason, whatever their values.
            DataError: too few rows to learn from.
            TrainingError: the training failed for a reason other than the tried values.
            RegistryError: MLflow does not answer.
        """
        import optuna

        folder = self._study.trial_home(claim.number).model
        short_names = shorten_paths(claim.values)
        texts = {path: format_value(value) for path, value in claim.values.items()}
        summary = ", ".join(f"{short_names[path]} {text}" for path, text in texts.items())
        logger.info("trial %d: %s", claim.number, summary)
        run = searches.open_trial_run(
            RunContext(self._plan.recipe, self._home), self._run_id, folder, claim.number, texts
        )
        state = "complete"
        why = None
        value = None
        is_misfit = False
        with runs.fail_on_error(self._home, run.run_id):
            try:
                self._train_trial(claim, folder, run)
            except optuna.TrialPruned:
                state = "pruned"
            except (ConfigError, SettingsError) as error:
                state = "pruned"
                why = " ".join(str(error).split())
                is_misfit = isinstance(error, ConfigError)
            value = self._read_value(folder, state)
            if state == "complete" and value is None:
                state = "pruned"
                why = f"{self._plan.recipe.metric} is undefined"
            searches.end_trial(self._home, run, state, value, why)
        if state == "complete" and value is not None:
            self._study.complete_trial(claim, value)
        else:
            self._study.prune_trial(claim, why)
        if is_misfit and why is not None and self._study.has_common_cause(why):
            raise ConfigError(f"{why} (the same in all {len(self._study.list_trials())} trials, whatever their values)")

    def _train_trial(self, claim: Claim, folder: Path, run: runs.Run) -> None:
        recipe = without_champion(self._plan.recipe_of(claim.values))
        tokens, encoded = self._load_tokens(recipe)
        name = f"eval_{recipe.metric}"

        def log_metrics(metrics: Mapping[str, float], step: int) -> None:
            run.log_metrics(metrics, step)
            value = metrics.get(name, math.nan)
            if math.isfinite(value):
                self._study.report_value(claim, value, step / _count_steps(folder))

        rule = recipe.training.distill
        training.finetune_model(
            RunContext(recipe, self._study.trial_home(claim.number)),
            tokens,
            encoded,
            self._rows,
            run_id=run.run_id,
            folder=folder,
            log=log_metrics,
            teacher=None if rule is None else self._teachers[rule.teacher],
        )

    def _load_tokens(self, recipe: Recipe) -> "tuple[Tokens, datasets.Dataset]":
        """Return the rows as this recipe encodes them; encodings are cached in this process."""
        key = tokenize.fingerprint_tokens(recipe)
        if key not in self._encoded:
            tokens = tokenize_rows(RunContext(recipe, self._home), self._snapshot, self._rows)
            self._encoded[key] = tokens, tokenize.load_tokens(tokens, self._rows)
        return self._encoded[key]

    def _read_value(self, folder: Path, state: str) -> float | None:
        """Return the metric of the trained model, from its best validation; of a pruned trial, the last one."""
        name = f"eval_{self._plan.recipe.metric}"
        values: list[float] = [
            metrics[name] for metrics in runs.read_history(folder) if math.isfinite(metrics.get(name, math.nan))
        ]
        if not values:
            return None
        if state != "complete":
            return values[-1]
        return min(values) if self._study.falls else max(values)

    def remove_leftovers(self) -> None:
        """Remove the files of the trials that have ended, except the best trial's model."""
        best = self._study.find_best()
        for trial in self._study.list_trials():
            folder = self._study.trial_home(trial.number).model
            if trial.state == "running":
                continue
            leftovers = ["checkpoints", "processes"]
            if best is None or trial.number != best.number:
                leftovers.append("bundle")
            for name in leftovers:
                shutil.rmtree(folder / name, ignore_errors=True)


def read_seen_rows(context: RunContext, snapshot: Snapshot) -> "pa.Table":
    """Return the train and validation rows of a snapshot, with inputs and targets.

    Raises:
        DataError: there are no validation rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [*NEEDED, *context.objective.COLUMNS]
    rows = assign.exclude_leaked_rows(
        transactions.read_rows(context.home, snapshot.version, columns), context.recipe.data.split
    )
    rows = rows.filter(pc.is_in(rows["split"], value_set=pa.array(SEEN)))
    if not pc.any(pc.equal(rows["split"], "validation")).as_py():
        raise DataError("no validation rows to compare trials on; set data.split.validation above 0, or add rows")
    return label_names.rename_rows(rows, context.recipe)


def tokenize_rows(context: RunContext, snapshot: Snapshot, rows: "pa.Table") -> Tokens:
    """Return the token data set of the rows that trials see.

    Raises:
        ConfigError: as `tokenize.tokenize_rows`.
        DataError: likewise.
    """
    counts = {split: snapshot.rows.get(split, 0) for split in SEEN}
    return tokenize.tokenize_rows(context, replace(snapshot, rows=counts), rows)


def without_champion(recipe: Recipe) -> Recipe:
    """Return the recipe as trials train it: from the base, on all train rows."""
    fresh = recipe.data.fresh.model_copy(update=FRESH)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"fresh": fresh})})


def _count_steps(folder: Path) -> int:
    """Return the number of steps of the whole training, which each checkpoint records."""
    state_files = (folder / "checkpoints").glob("checkpoint-*/trainer_state.json")
    return max(int(read_json(path)["max_steps"]) for path in state_files)
