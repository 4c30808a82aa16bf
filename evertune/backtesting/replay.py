"""A replayed history: train each model once, score every row with it once, and keep the scores."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune import training
from evertune.backtesting.kept_scores import NEVER, KeptHistory, KeptModel, load_model
from evertune.backtesting.windows import Windows
from evertune.config import Recipe
from evertune.data.splits import assign
from evertune.evaluation import robustness, row_scores
from evertune.evaluation.row_facts import describe_rows
from evertune.monitoring import observations, unseen_rows
from evertune.objectives import extract_cells, load_objective
from evertune.records import Candidate, Snapshot, Tokens, compute_digest
from evertune.runtime import job_slots
from evertune.runtime.context import RunContext
from evertune.runtime.files import append_json, read_json_lines
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import two_sample
from evertune.statistics.two_sample import Sample
from evertune.tokenization import tokenize

if TYPE_CHECKING:
    import pyarrow as pa

MODELS = "models"
SCORES = "scores"
DRIFT = "drift.jsonl"


class Replay:
    """The corpus as it was at the end of each window, and the models that were trained there.

    Args:
        recipe: the model's recipe.
        home: where its corpus and models are.
        rows: all rows of the corpus, with today's label names.
        tokens: of all rows.
        windows: of these rows.
        folder: for the trained models and their scores.
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
        self.history = self._describe_history()
        (folder / SCORES).mkdir(parents=True, exist_ok=True)

    def _describe_history(self) -> KeptHistory:
        rows = _by_window(self.rows_between(-1, len(self.windows)))
        targets = rows[self._target].to_pylist()
        names = self.tokens.snapshot.labels if self._objective.LABELED else ()
        names = tuple(dict.fromkeys([*names, *sorted(set(self._objective.list_labels(targets)))]))
        facts = describe_rows(self._objective, extract_cells(rows, self._objective.INPUTS), targets, rows, names)
        split = np.array(rows["split"].to_pylist())
        first_train = np.full(facts.groups.max(initial=0) + 1, NEVER)
        is_train = (split == "train") & (facts.batches > 0)
        np.minimum.at(first_train, facts.groups[is_train], facts.batches[is_train])
        days = tuple(day.isoformat() for day in self.windows.starts)
        return KeptHistory(facts, split == "test", first_train[facts.groups], days)

    def rows_until(self, window: int) -> "pa.Table":
        """Return the rows up to the end of a window, each with its `window`."""
        return self.rows_between(0, window)

    def rows_between(self, after: int, until: int) -> "pa.Table":
        """Return the rows of the windows after `after` up to and including `until`, each with its `window`."""
        import pyarrow as pa

        is_chosen = (self.windows.number > after) & (self.windows.number <= until)
        rows = self.rows.filter(pa.array(is_chosen))
        return rows.append_column("window", pa.array(self.windows.number[is_chosen], pa.int64()))

    def explain_missing_rows(self, window: int, champion: KeptModel) -> str:
        """Return why there are too few rows to retrain, which ends a run as `unchanged`; empty if there are enough."""
        rows = assign.exclude_leaked_rows(self.rows_until(window), self.recipe.data.split)
        return training.explain_missing_rows(_by_window(rows), self.recipe, champion.window)

    def obtain_model(self, window: int, champion: KeptModel | None) -> KeptModel:
        """Return the scores of the model trained on what was known at the end of a window.

        It is trained unless an earlier call, or an earlier backtest of the same rows and settings, did so.

        Args:
            window: number of the window.
            champion: the model in use. It matters only if the recipe starts from it, or learns rows new to it.
        Raises:
            EvertuneError: see `finetune_model`.
        """
        key = self._fingerprint_model(window, champion)
        kept = load_model(self.folder / SCORES, f"{window:04d}-{key[:12]}")
        if kept is not None:
            return kept
        candidate = self._train_model(window, champion, key)
        model = self._score_model(candidate, window, key, champion)
        model.save(self.folder / SCORES)
        return load_model(self.folder / SCORES, model.name) or model  # rounded, as a later call reads it

    def obtain_bundle(self, model: KeptModel) -> Path:
        """Return a model's bundle; it is trained again if it was removed.

        Raises:
            EvertuneError: see `finetune_model`.
        """
        folder = self.folder / MODELS / model.name / "bundle"
        if folder.is_dir():
            return folder
        parent = load_model(self.folder / SCORES, model.parent) if model.parent else None
        return Path(self._train_model(model.window, parent, model.key).bundle)

    def _starts_from(self, champion: KeptModel | None) -> KeptModel | None:
        """Return the champion if a training depends on it."""
        fresh = self.recipe.data.fresh
        return champion if (fresh.start_from, fresh.train_on) != ("base", "all") else None

    def _fingerprint_model(self, window: int, champion: KeptModel | None) -> str:
        tokens = self._known_tokens(window)
        start = self._starts_from(champion)
        return training.fingerprint_training(self.recipe, tokens, start.digest if start else None)

    def _known_tokens(self, window: int) -> Tokens:
        snapshot = self._make_snapshot(self.rows_until(window), window)
        return replace(self.tokens, snapshot=snapshot, fingerprint=compute_digest(self.tokens.fingerprint, window))

    def _train_model(self, window: int, champion: KeptModel | None, key: str) -> Candidate:
        rows = self.rows_until(window)
        tokens = self._known_tokens(window)
        rows = assign.exclude_leaked_rows(rows, self.recipe.data.split)
        start = self._starts_from(champion)
        return training.finetune_model(
            RunContext(self.recipe, self.home),
            tokens,
            tokenize.load_tokens(tokens, rows),
            _by_window(rows),
            run_id=self._run_id,
            folder=self.folder / MODELS / f"{window:04d}-{key[:12]}",
            log=lambda metrics, step: None,
            champion=self.obtain_bundle(start) if start else None,
            since=start.window if start else 0,
        )

    def _score_model(self, candidate: Candidate, window: int, key: str, champion: KeptModel | None) -> KeptModel:
        """Score every row, past and future."""
        rows = self.rows_between(-1, len(self.windows))
        inputs = extract_cells(rows, self._objective.INPUTS)
        targets = rows[self._target].to_pylist()
        names = self.history.facts.names
        start = self._starts_from(champion)
        with job_slots.hold_slot(self.recipe.name):
            predictor = self._load_predictor(Path(candidate.bundle))
            predictions, scores = row_scores.predict_with_scores(
                self._objective, predictor, inputs, targets, {}, max(2, len(names))
            )
            stats = self._objective.compute_statistics(targets, predictions, names)
            tests = self._measure_robustness(Path(candidate.bundle), window, inputs, targets, predictions)
        return KeptModel(
            window=window,
            key=key,
            digest=candidate.digest,
            seconds=candidate.seconds,
            parent=start.name if start else "",
            labels=tuple(bundle.read_labels(Path(candidate.bundle))),
            stats=stats,
            scores=scores,
            robustness=tests,
        )

    def _measure_robustness(
        self, folder: Path, window: int, inputs: list[Any], targets: list[Any], predictions: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the results of the recipe's robustness tests on the test rows that were known then."""
        if not self.recipe.evaluation.gate.robustness:
            return {}
        known = np.flatnonzero(self.history.is_test & self.history.rows_between(0, window))
        chosen_inputs, chosen_targets, answers = (
            [values[row] for row in known] for values in (inputs, targets, predictions)
        )
        results = robustness.evaluate_robustness(
            self.recipe, self._objective, folder, None, chosen_inputs, chosen_targets, {"challenger": answers}
        )
        return dict(results["robustness"])

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

    def measure_drift(self, champion: KeptModel, after: int, until: int) -> float | None:
        """Return the p-value of a change between the test rows of the champion's windows and the new rows.

        None if there are too few rows to compare. A value that was measured before is not measured again.

        Args:
            champion: the model in use.
            after: the new rows are those after this window ...
            until: ... up to the end of this one.
        """
        question = {"model": champion.name, "after": after, "until": until}
        for measured in read_json_lines(self.folder / SCORES / DRIFT):
            if {name: measured[name] for name in question} == question:
                p: float | None = measured["p"]
                return p
        p = self._compare_rows(champion, after, until)
        append_json(self.folder / SCORES / DRIFT, {**question, "p": p})
        return p

    def _compare_rows(self, champion: KeptModel, after: int, until: int) -> float | None:
        known_rows = self.rows_until(champion.window)
        new_rows = self.rows_between(after, until)
        selections = unseen_rows.select_both_sides(known_rows, new_rows)
        if not all(selection.kept.any() for selection in selections):
            return None
        with job_slots.hold_slot(self.recipe.name):
            predictor = self._load_predictor(self.obtain_bundle(champion))
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


def _by_window(rows: "pa.Table") -> "pa.Table":
    """Return the rows with their window as `batch`, which tells old rows from new ones."""
    return rows.set_column(rows.column_names.index("batch"), "batch", rows["window"]).drop_columns("window")
