"""What a backtest keeps of its models and rows: scores and statistics, so that any gate can be replayed in seconds.

rows.npz             facts of all rows: window, split, group, label, age, length, source, leakage at each window's end
0007-3f0a....npz     one model: its statistics and scores of every row, past and future
history.json         what the replay belongs to: recipe, metric, windows
"""

import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from evertune.evaluation.row_facts import RowFacts, load_facts
from evertune.objectives.shared.proper_scores import RowScores
from evertune.runtime.files import read_json, write_json

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

FACTS = "rows.npz"
SPLITS = "splits.npz"
HISTORY = "history.json"
NEVER = 1 << 40
DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class KeptHistory:
    """The rows of a replayed history, in order of arrival.

    Args:
        facts: of all rows; `batches` holds the number of each row's window, 0 for a row in no window.
        is_test: (rows,).
        leaked_from: (rows,) window at whose end a row is first in or near train rows; `NEVER` for other rows.
        days: first day of each window, as text.
        settings: JSON-ready facts that tell what the replay belongs to.
    """

    facts: RowFacts
    is_test: Mask
    leaked_from: NDArray[np.int64]
    days: tuple[str, ...]
    settings: dict[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.days)

    @property
    def windows(self) -> NDArray[np.int64]:
        """(rows,) number of each row's window."""
        return self.facts.batches

    def rows_between(self, after: int, until: int) -> Mask:
        """Return a mask (rows,) of the rows of the windows after `after` up to and including `until`."""
        return (self.windows > after) & (self.windows <= until)

    def save(self, folder: Path) -> None:
        """Write the history into a folder.

        Raises:
            OSError: the disk is full or not writable.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.facts.save(folder / FACTS)
        with (folder / SPLITS).open("wb") as file:
            np.savez_compressed(file, is_test=self.is_test, leaked_from=self.leaked_from)
        write_json(folder / HISTORY, {"days": list(self.days), "settings": self.settings})


def load_history(folder: Path) -> KeptHistory | None:
    """Return the history in a folder; None if it is not there or damaged."""
    try:
        record = read_json(folder / HISTORY)
        if record is None:
            return None
        with np.load(folder / SPLITS) as arrays:
            is_test = arrays["is_test"]
            leaked_from = arrays["leaked_from"]
        return KeptHistory(load_facts(folder / FACTS), is_test, leaked_from, tuple(record["days"]), record["settings"])
    except (*DAMAGED, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class KeptModel:
    """A model of a replayed history, by what it says of every row.

    Args:
        window: at whose end it was trained.
        key: of its training.
        digest: of its bundle.
        seconds: of training.
        parent: key of the model that it started from or whose rows it left out; empty where there is none.
        labels: that it knows.
        stats: (rows, m) statistics of the objective, for all labels of the corpus.
        scores: of every row; None where the objective has only metrics.
        robustness: result of each robustness test that the recipe configures.
    """

    window: int
    key: str
    digest: str
    seconds: float
    parent: str
    labels: tuple[str, ...]
    stats: NDArray[np.floating]
    scores: RowScores | None
    robustness: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the model's files."""
        return f"{self.window:04d}-{self.key[:12]}"

    def save(self, folder: Path) -> None:
        """Write the model's numbers, whole or not at all.

        Raises:
            OSError: the disk is full or not writable.
        """
        arrays: dict[str, NDArray[Any]] = {"stats": self.stats.astype(np.float32)}
        if self.scores is not None:
            arrays |= {"log": self.scores.log, "brier": self.scores.brier, "sizes": self.scores.sizes}
            arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
        scratch = folder / f".{self.name}.npz"
        with scratch.open("wb") as file:
            np.savez_compressed(file, **cast("dict[str, Any]", arrays))
        numbers = ("window", "key", "digest", "seconds", "parent", "labels", "robustness")
        write_json(folder / f"{self.name}.json", {name: getattr(self, name) for name in numbers})
        scratch.rename(folder / f"{self.name}.npz")


def load_model(folder: Path, name: str) -> KeptModel | None:
    """Return a kept model; None if it is not there or damaged.

    Args:
        folder: of the kept scores.
        name: of the model's files.
    """
    try:
        facts = read_json(folder / f"{name}.json")
        if facts is None:
            return None
        with np.load(folder / f"{name}.npz") as arrays:
            values = {key: arrays[key].astype(np.float64) for key in arrays.files}
    except DAMAGED:
        return None
    stats = values.pop("stats")
    scores = RowScores(**values) if values else None
    return KeptModel(**{**facts, "labels": tuple(facts["labels"])}, stats=stats, scores=scores)


def list_models(folder: Path) -> list[KeptModel]:
    """Return all kept models, the earliest first."""
    models = (load_model(folder, path.stem) for path in sorted(folder.glob("[0-9]*.npz")))
    return [model for model in models if model is not None]


def with_settings(history: KeptHistory, /, **settings: object) -> KeptHistory:
    """Return the history with further settings."""
    return replace(history, settings={**history.settings, **settings})
