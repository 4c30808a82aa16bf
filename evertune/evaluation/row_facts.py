"""What a comparison must know of each scored row besides its scores: label, group, age, length, source."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evertune.objectives import Objective

if TYPE_CHECKING:
    import pyarrow as pa

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DAY = 86_400e6  # microseconds
UNKNOWN_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class RowFacts:
    """Facts of rows as arrays, in the order of the rows.

    Args:
        names: all labels; empty for an objective without labels.
        label_rows: (items,) row of each label in the targets.
        label_ids: (items,) position of that label in `names`.
        groups: (rows,) number of each row's group; the rows of a group are not independent.
        batches: (rows,) batch, or window of a replayed history, that first brought the row.
        moments: (rows,) timestamp in microseconds since 1970; `UNKNOWN_TIME` where there is none.
        lengths: (rows,) number of characters or words; empty for pictures.
        sources: (rows,) URI that the row came from.
    """

    names: tuple[str, ...]
    label_rows: Integers
    label_ids: Integers
    groups: Integers
    batches: Integers
    moments: Integers
    lengths: Floats
    sources: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.groups)

    def select(self, mask: Mask) -> "RowFacts":
        """Return the facts of the rows where `mask` (rows,) is true."""
        new_positions = np.cumsum(mask) - 1
        is_kept = mask[self.label_rows]
        return RowFacts(
            names=self.names,
            label_rows=new_positions[self.label_rows[is_kept]],
            label_ids=self.label_ids[is_kept],
            groups=self.groups[mask],
            batches=self.batches[mask],
            moments=self.moments[mask],
            lengths=self.lengths[mask] if len(self.lengths) else self.lengths,
            sources=self.sources[mask],
        )

    @property
    def has_times(self) -> bool:
        """Whether every row has a timestamp."""
        return bool((self.moments != UNKNOWN_TIME).all())

    @property
    def days(self) -> Floats:
        """(rows,) age of each row in days before the newest one; NaN without a timestamp."""
        known = self.moments != UNKNOWN_TIME
        ages = np.full(len(self), np.nan)
        if known.any():
            moments = self.moments[known]
            ages[known] = (moments.max() - moments) / DAY
        return ages

    @property
    def ingests(self) -> Floats:
        """(rows,) age of each row in batches before the newest one."""
        return np.asarray(self.batches.max(initial=0) - self.batches, dtype=np.float64)

    @property
    def classes(self) -> Integers:
        """(rows,) position of each row's label in `names`; -1 for all rows unless every row has exactly one."""
        classes = np.full(len(self), -1, dtype=np.int64)
        if len(self.label_rows) == len(self) and len(np.unique(self.label_rows)) == len(self):
            classes[self.label_rows] = self.label_ids
        return classes

    def mark_new_labels(self, known_labels: Collection[str] | None) -> Mask:
        """Return a mask (rows,) of rows with a label that is not among these; no row if they are None."""
        mask = np.zeros(len(self), dtype=bool)
        if known_labels is not None:
            is_new = np.array([name not in known_labels for name in self.names], dtype=bool)
            mask[self.label_rows[is_new[self.label_ids]]] = True
        return mask

    def save(self, path: Path) -> None:
        """Write the facts into an `.npz` file."""
        arrays = {name: value for name, value in vars(self).items() if name != "names"}
        with path.open("wb") as file:
            np.savez_compressed(file, names=np.array(self.names, dtype=str), **arrays)


def load_facts(path: Path) -> RowFacts:
    """Return the facts that `RowFacts.save` wrote.

    Raises:
        OSError, ValueError, KeyError: the file is missing or damaged.
    """
    with np.load(path) as arrays:
        values: dict[str, Any] = {name: arrays[name] for name in arrays.files}
    return RowFacts(**{**values, "names": tuple(values["names"].tolist())})


def describe_rows(
    objective: Objective, inputs: Sequence[Any], targets: Sequence[Any], rows: "pa.Table", names: Sequence[str]
) -> RowFacts:
    """Return the facts of some rows of the corpus.

    Args:
        objective: of the recipe.
        inputs: of the rows.
        targets: of the rows.
        rows: with `component`, `batch`, `timestamp` and `source`.
        names: all labels.
    """
    labels = [objective.list_labels([target]) for target in targets] if objective.LABELED else []
    position = {name: index for index, name in enumerate(names)}
    moments = rows["timestamp"].cast("int64").fill_null(int(UNKNOWN_TIME)).to_numpy()
    lengths = [] if objective.shows_pictures else [_measure_length(value) for value in inputs]
    return RowFacts(
        names=tuple(names),
        label_rows=np.repeat(np.arange(len(labels)), [len(row_labels) for row_labels in labels]).astype(np.int64),
        label_ids=np.array([position[label] for row_labels in labels for label in row_labels], dtype=np.int64),
        groups=np.unique(rows["component"].to_numpy(), return_inverse=True)[1].astype(np.int64),
        batches=rows["batch"].to_numpy().astype(np.int64),
        moments=moments.astype(np.int64),
        lengths=np.array(lengths, dtype=np.float64),
        sources=np.array(rows["source"].to_pylist(), dtype=str),
    )


def _measure_length(value: Any) -> int:
    return sum(map(len, value)) if isinstance(value, tuple) else len(value)
