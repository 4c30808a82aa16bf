"""Operations on a replayed history: train on what was known, compare models, measure drift, score the next window."""

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune import training
from evertune.backtesting.windows import Windows
from evertune.config import Recipe
from evertune.data.splits import assign
from evertune.evaluation import evaluate
from evertune.gate import challenge
from evertune.monitoring import observations, unseen_rows
from evertune.objectives import extract_cells, load_objective
from evertune.records import Candidate, Decision, Snapshot, Tokens, compute_digest
from evertune.runtime import job_slots
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import two_sample
from evertune.statistics.two_sample import Sample
from evertune.tokenization import tokenize

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Model:
    """A model that was trained at the end of a window.

    Args:
        folder: its bundle.
        window: number of the last window whose rows it knows.
    """

    folder: Path
    window: int


class Replay:
    """The corpus as it was at the end of each window.

    Args:
        recipe: the model's recipe.
        home: where its corpus and models are.
        rows: all rows of the corpus, with today's label names.
        tokens: of all rows.
        windows: of these rows.
        folder: for the trained models and their comparisons.
        run_id: written into the models' cards.
    """

    def __init__(
        self, recipe: Recipe, home: Home, rows: "pa.Table", tokens: Tokens, windows: Windows, folder: Path, run_id: str
    ) -> None:
        # Train in one process: others would look up tokens by the rows' batch, which is the window here.
        single_process = recipe.training.model_copy(update={"processes": 1})
        self.recipe = recipe.model_copy(update={"training": single_process})
        self.home = home
        order = np.argsort(windows.number, kind="stable")  # the order in which batches would have arrived
        self.rows = rows.take(order)
        self.tokens = tokens
        self.windows = replace(windows, number=windows.number[order])
        self.folder = folder
        self._run_id = run_id
        self._objective = load_objective(recipe.objective.type)
        self._target = self._objective.TARGET
        self._load_predictor = lru_cache(maxsize=3)(bundle.load_predictor)
        self.score_window = lru_cache(maxsize=None)(self._score_window)

    def rows_until(self, window: int) -> "pa.Table":
        """Return the rows up to the end of a window, each with its `window`."""
        return self.rows_between(0, window)

    def rows_between(self, after: int, until: int) -> "pa.Table":
        """Return the rows of the windows after `after` up to and including `until`, each with its `window`."""
        import pyarrow as pa

        is_chosen = (self.windows.number > after) & (self.windows.number <= until)
        rows = self.rows.filter(pa.array(is_chosen))
        return rows.append_column("window", pa.array(self.windows.number[is_chosen], pa.int64()))

    def explain_missing_rows(self, window: int, champion: Model) -> str:
        """Return why there are too few rows to retrain, which ends a run as `unchanged`; empty if there are enough."""
        rows = assign.exclude_leaked_rows(self.rows_until(window), self.recipe.data.split)
        return training.explain_missing_rows(_by_window(rows), self.recipe, champion.window)

    def train_model(self, window: int, champion: Model | None) -> Candidate:
        """Train a model on what was known at the end of a window; a model that another policy trained there is reused.

        Raises:
            EvertuneError: see `finetune_model`.
        """
        rows = self.rows_until(window)
        snapshot = self._make_snapshot(rows, window)
        tokens = replace(self.tokens, snapshot=snapshot, fingerprint=compute_digest(self.tokens.fingerprint, window))
        rows = assign.exclude_leaked_rows(rows, self.recipe.data.split)
        encoded = tokenize.load_tokens(tokens, rows)
        fresh = self.recipe.data.fresh
        start = champion if (fresh.start_from, fresh.train_on) != ("base", "all") else None
        key = training.fingerprint_training(self.recipe, tokens, bundle.compute_digest(start.folder) if start else None)
        return training.finetune_model(
            RunContext(self.recipe, self.home),
            tokens,
            encoded,
            _by_window(rows),
            run_id=self._run_id,
            folder=self.folder / "models" / f"{window:04d}-{key[:12]}",
            log=lambda metrics, step: None,
            champion=start.folder if start else None,
            since=start.window if start else 0,
        )

    def _make_snapshot(self, rows: "pa.Table", window: int) -> Snapshot:
        corpus = self.tokens.snapshot
        target = rows[self._target].to_pylist()
        present = set(self._objective.list_labels(target))
        return Snapshot(
            version=corpus.version,
            fingerprint=compute_digest(corpus.fingerprint, window, self.windows.starts[0].isoformat()),
            rows=dict(Counter(rows["split"].to_pylist())),
            batch=window,
            labels=tuple(label for label in corpus.labels if label in present),
        )

    def judge_candidate(
        self,
        candidate: Candidate,
        champion: Model,
        window: int,
        challenge_number: int,
        name: str,
        superior_on: str | None,
    ) -> Decision:
        """Return the gate's decision on the test rows that were known then, within `evaluation.window`.

        Args:
            candidate: the challenger.
            champion: the model in use.
            window: number of the window at whose end they are compared.
            challenge_number: how many challengers, this one included, this champion has met.
            name: of the comparison's folder.
            superior_on: test rows on which the gate requires superiority. None: those that the recipe names.
        """
        import pyarrow as pa

        rows = _by_window(self.rows_until(window))
        leaked = set(assign.find_leaked_rows(rows).to_pylist())
        test = rows.filter(pa.array(evaluate.select_scored_rows(rows, self.recipe.evaluation.window, champion.window)))
        folder = self.folder / "compared" / name
        folder.mkdir(parents=True, exist_ok=True)
        own_candidate = replace(candidate, run_folder=str(folder))
        with job_slots.hold_slot(self.recipe.name):
            report = evaluate.evaluate_models(
                self.recipe, own_candidate, test, leaked, champion.folder, champion.window
            )
        decision = challenge.decide_challenge(self._require_superiority(superior_on), report, challenge_number)
        shutil.rmtree(folder)
        return decision

    def _require_superiority(self, superior_on: str | None) -> Recipe:
        """Return the recipe with a gate that requires superiority on these rows."""
        if superior_on is None:
            return self.recipe
        gate = self.recipe.evaluation.gate.model_copy(update={"superior_on": superior_on})
        rules = self.recipe.evaluation.model_copy(update={"gate": gate})
        return self.recipe.model_copy(update={"evaluation": rules})

    def measure_drift(self, champion: Model, after: int, until: int) -> float | None:
        """Return the p-value of a change between the test rows of the champion's windows and the new rows.

        None if there are too few rows to compare.

        Args:
            champion: the model in use.
            after: the new rows are those after this window ...
            until: ... up to the end of this one.
        """
        known_rows = self.rows_until(champion.window)
        new_rows = self.rows_between(after, until)
        selections = unseen_rows.select_both_sides(known_rows, new_rows)
        if not all(selection.kept.any() for selection in selections):
            return None
        with job_slots.hold_slot(self.recipe.name):
            predictor = self._load_predictor(champion.folder)
            reference = self._observe_rows(predictor, known_rows, selections[0])
            current = self._observe_rows(predictor, new_rows, selections[1])
        return two_sample.compare_samples(reference, current, self.recipe.training.seed).p

    def _observe_rows(self, predictor: Any, rows: "pa.Table", selection: unseen_rows.Unseen) -> Sample:
        import pyarrow as pa

        rows = rows.filter(pa.array(selection.kept))
        kinds = selection.recurs[selection.kept]
        inputs = extract_cells(rows, self._objective.INPUTS)
        targets = rows[self._target].to_pylist()
        return observations.observe_rows(predictor, self.recipe, inputs, targets, rows["component"].to_numpy(), kinds)

    def _score_window(self, folder: Path, window: int) -> dict[str, float | None]:
        """Return the metrics of a model on all rows of a window; empty without rows."""
        rows = self.rows_between(window - 1, window)
        if not len(rows):
            return {}
        targets = rows[self._target].to_pylist()
        inputs = extract_cells(rows, self._objective.INPUTS)
        with job_slots.hold_slot(self.recipe.name):
            predictor = self._load_predictor(folder)
            predictions = predictor.assess(inputs, targets) if self._objective.ASSESSED else predictor.predict(inputs)
        names = sorted({*bundle.read_labels(folder), *self._objective.list_labels(targets)})
        sums = self._objective.compute_statistics(targets, predictions, names).sum(0, dtype="float64")
        metrics = self._objective.compute_metrics(sums, names)
        return {name: float(value) if np.isfinite(value) else None for name, value in metrics.items()}


def _by_window(rows: "pa.Table") -> "pa.Table":
    """Return the rows with their window as `batch`, which tells old rows from new ones."""
    return rows.set_column(rows.column_names.index("batch"), "batch", rows["window"]).drop_columns("window")
