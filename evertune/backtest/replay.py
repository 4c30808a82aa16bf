"""The parts of a replayed history: train on what was known, compare, look for drift, score what came next."""

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune import training
from evertune.backtest.windows import Windows
from evertune.config import Recipe
from evertune.data.splits import assign as splits
from evertune.evaluation import evaluate as evaluation
from evertune.gate import challenge
from evertune.monitoring import observations as observing
from evertune.monitoring import unseen_rows as unseen
from evertune.objectives import cells, module
from evertune.records import Candidate, Decision, Snapshot, Tokens, digest
from evertune.runtime import job_slots as jobs
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import two_sample as drift
from evertune.statistics.two_sample import Rows
from evertune.tokenization import tokenize as tokenization

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Model:
    """A model that was trained at a window's end.

    Args:
        folder: its bundle; window: the last one that it knew.
    """

    folder: Path
    window: int


class Replay:
    """The corpus as it was at each window's end.

    Args:
        rows: all rows of the corpus under the names of today; windows: of these rows.
        tokens: of all rows.
        folder: for models and what is compared.
        run_id: that the models' cards name.
    """

    def __init__(
        self, recipe: Recipe, home: Home, rows: "pa.Table", tokens: Tokens, windows: Windows, folder: Path, run_id: str
    ) -> None:
        # One process: others would look for the rows' tokens by their batch, which is the window here.
        alone = recipe.training.model_copy(update={"processes": 1})
        self.recipe, self.home = recipe.model_copy(update={"training": alone}), home
        order = np.argsort(windows.number, kind="stable")  # as batches would have come
        self.rows, self.tokens, self.windows = rows.take(order), tokens, replace(windows, number=windows.number[order])
        self.folder, self._run_id, self._objective = folder, run_id, module(recipe.objective.type)
        self._target = self._objective.TARGET
        self._predictor = lru_cache(maxsize=3)(bundle.predictor)
        self.scored = lru_cache(maxsize=None)(self._scored)

    def known(self, window: int) -> "pa.Table":
        """The rows up to a window's end, with the `window` that each came in."""
        return self.came(0, window)

    def came(self, after: int, until: int) -> "pa.Table":
        """The rows of the windows behind `after`, up to the end of `until`, with the `window` that each came in."""
        import pyarrow as pa

        chosen = (self.windows.number > after) & (self.windows.number <= until)
        rows = self.rows.filter(pa.array(chosen))
        return rows.append_column("window", pa.array(self.windows.number[chosen], pa.int64()))

    def lacking(self, window: int, champion: Model) -> str:
        """What the rows that a retraining would learn from lack, so that a run would say `unchanged`; else empty."""
        rows = splits.apart(self.known(window), self.recipe.data.split)
        return training.lacking(_by_window(rows), self.recipe, champion.window)

    def train(self, window: int, champion: Model | None) -> Candidate:
        """A model of what was known at a window's end; what another policy has trained there is taken as it is.

        Raises:
            EvertuneError: see `training.finetune`.
        """
        rows = self.known(window)
        snapshot = self._snapshot(rows, window)
        tokens = replace(self.tokens, snapshot=snapshot, fingerprint=digest(self.tokens.fingerprint, window))
        rows = splits.apart(rows, self.recipe.data.split)
        encoded = tokenization.load(tokens, rows)
        fresh = self.recipe.data.fresh
        since = champion if (fresh.start_from, fresh.train_on) != ("base", "all") else None
        key = training.fingerprint(self.recipe, tokens, bundle.digest(since.folder) if since else None)
        return training.finetune(
            self.recipe, self.home, tokens, encoded, _by_window(rows), run_id=self._run_id,
            folder=self.folder / "models" / f"{window:04d}-{key[:12]}", log=lambda metrics, step: None,
            champion=since.folder if since else None, since=since.window if since else 0,
        )  # fmt: skip

    def _snapshot(self, rows: "pa.Table", window: int) -> Snapshot:
        whole, target = self.tokens.snapshot, rows[self._target].to_pylist()
        present = set(self._objective.label_values(target))
        return Snapshot(
            version=whole.version, fingerprint=digest(whole.fingerprint, window, self.windows.starts[0].isoformat()),
            rows=dict(Counter(rows["split"].to_pylist())), batch=window,
            labels=tuple(label for label in whole.labels if label in present),
        )  # fmt: skip

    def judge(
        self, candidate: Candidate, champion: Model, window: int, night: int, name: str, superior_on: str | None
    ) -> Decision:
        """What the gate says, on the test rows that were known then and that `evaluation.window` lets in.

        Args:
            night: how many challengers, this one included, this champion has met.
            superior_on: test rows on which superiority is asked. Default: those that the recipe names.
        """
        import pyarrow as pa

        rows = _by_window(self.known(window))
        leaked = set(splits.leaked(rows).to_pylist())
        test = rows.filter(pa.array(evaluation.scored(rows, self.recipe.evaluation.window, champion.window)))
        folder = self.folder / "compared" / name
        folder.mkdir(parents=True, exist_ok=True)
        apart = replace(candidate, run_folder=str(folder))
        with jobs.place(self.recipe.name):
            report = evaluation.evaluate(self.recipe, apart, test, leaked, champion.folder, champion.window)
        decision = challenge.decide(self._asking(superior_on), report, night)
        shutil.rmtree(folder)
        return decision

    def _asking(self, superior_on: str | None) -> Recipe:
        """The recipe with a gate that asks for superiority on these rows."""
        if superior_on is None:
            return self.recipe
        rule = self.recipe.evaluation.gate.model_copy(update={"superior_on": superior_on})
        asking = self.recipe.evaluation.model_copy(update={"gate": rule})
        return self.recipe.model_copy(update={"evaluation": asking})

    def drift(self, champion: Model, after: int, until: int) -> float | None:
        """P-value of a change between the test rows that the champion's window knew and the new rows of others.

        None where there is too little to compare.
        """
        known, came = self.known(champion.window), self.came(after, until)
        sides = list(zip((known, came), unseen.sides(known, came), strict=True))
        if not all(which.kept.any() for _, which in sides):
            return None
        with jobs.place(self.recipe.name):
            predictor = self._predictor(champion.folder)
            before, since = (self._observed(predictor, rows, which) for rows, which in sides)
        return drift.compare(before, since, self.recipe.training.seed).p

    def _observed(self, predictor: Any, rows: "pa.Table", which: unseen.Unseen) -> Rows:
        import pyarrow as pa

        rows, kinds = rows.filter(pa.array(which.kept)), which.recurs[which.kept]
        inputs, targets = cells(rows, self._objective.INPUTS), rows[self._target].to_pylist()
        return observing.observed(predictor, self.recipe, inputs, targets, rows["component"].to_numpy(), kinds)

    def _scored(self, folder: Path, window: int) -> dict[str, float | None]:
        """Metrics of a model on all rows of a window; none where it has no rows."""
        rows = self.came(window - 1, window)
        if not len(rows):
            return {}
        targets, inputs = rows[self._target].to_pylist(), cells(rows, self._objective.INPUTS)
        with jobs.place(self.recipe.name):
            predictor, known = self._predictor(folder), self._objective.ASSESSED
            predictions = predictor.assess(inputs, targets) if known else predictor.predict(inputs)
        names = sorted({*bundle.labels(folder), *self._objective.label_values(targets)})
        sums = self._objective.statistics(targets, predictions, names).sum(0, dtype="float64")
        found = self._objective.metrics(sums, names)
        return {name: float(value) if np.isfinite(value) else None for name, value in found.items()}


def _by_window(rows: "pa.Table") -> "pa.Table":
    """The rows with their window for their batch, which tells old rows from new ones."""
    return rows.set_column(rows.column_names.index("batch"), "batch", rows["window"]).drop_columns("window")
