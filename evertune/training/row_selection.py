"""Select the train rows of a snapshot that a retraining learns from: `data.fresh`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data.columns.strings import BASE, hash_strings, mask_equal, mix_bits
from evertune.objectives import load_objective

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


def select_train_rows(rows: "pa.Table", recipe: Recipe, since: int) -> "npt.NDArray[np.bool_]":
    """Return a mask (rows,) of the rows to learn from.

    Args:
        rows: the snapshot's rows with `row_version`, `batch`, `split` and their targets.
        recipe: the model's recipe.
        since: batch of the champion's snapshot; rows of later batches are new. 0 without a champion.
    """
    chosen = _select_by_age(rows, recipe, since)
    max_per_label = recipe.data.fresh.examples_per_label
    return chosen if max_per_label is None else _limit_per_label(rows, recipe, chosen, max_per_label)


def explain_missing_rows(rows: "pa.Table", recipe: Recipe, since: int) -> str:
    """Explain why no model can be trained on the rows; empty if one can.

    Args:
        rows: as for `select_train_rows`.
        recipe: the model's recipe.
        since: as for `select_train_rows`.
    """
    import numpy as np

    objective = load_objective(recipe.objective.type)
    indices = np.flatnonzero(select_train_rows(rows, recipe, since))
    values = objective.list_labels(rows.column(objective.TARGET).take(indices).to_pylist())
    return explain_shortage(len(indices), values, recipe, since)


def explain_shortage(count: int, values: Sequence[str], recipe: Recipe, since: int) -> str:
    """Explain why no model can be trained on the selected rows; empty if one can.

    Args:
        count: number of selected rows.
        values: all their labels; empty if the objective has no labels.
        recipe: the model's recipe.
        since: as for `select_train_rows`.
    """
    kind = "train rows"
    if since and recipe.data.fresh.train_on != "all":
        kind = "train rows newer than the champion"
    if not count:
        return f"no {kind}"
    if not load_objective(recipe.objective.type).LABELED:
        return ""
    if not values:
        return f"the {kind} have no label"
    if len(set(values)) < 2:
        return f"the {kind} have only one label, {values[0]!r}, but at least two are needed"
    return ""


def _select_by_age(rows: "pa.Table", recipe: Recipe, since: int) -> "npt.NDArray[np.bool_]":
    """Return a mask (rows,) as `select_train_rows`, without a limit for each label."""
    train = mask_equal(rows.column("split"), "train")
    fresh = recipe.data.fresh
    if fresh.train_on == "all":
        return train
    new: npt.NDArray[np.bool_] = train & (rows.column("batch").to_numpy() > since)
    if fresh.train_on == "new":
        return new
    return _add_replay(rows, recipe, new, train & ~new, since)


def _limit_per_label(
    rows: "pa.Table", recipe: Recipe, chosen: "npt.NDArray[np.bool_]", max_per_label: int
) -> "npt.NDArray[np.bool_]":
    """Limit the selected rows of each label, drawn by row and seed; a row with several labels counts for each."""
    import numpy as np

    objective = load_objective(recipe.objective.type)
    indices = np.flatnonzero(chosen)
    targets = rows.column(objective.TARGET).take(indices).to_pylist()
    order = np.argsort(_draw_uniform(rows["row_version"].take(indices), recipe.training.seed, 0))
    counts = Counter[str]()
    is_kept = np.zeros(len(rows), dtype=bool)
    for position in order.tolist():
        labels = set(objective.list_labels([targets[position]]))
        if any(counts[label] < max_per_label for label in labels):
            is_kept[indices[position]] = True
            counts.update(labels)
    return is_kept


def _add_replay(
    rows: "pa.Table", recipe: Recipe, new: "npt.NDArray[np.bool_]", old: "npt.NDArray[np.bool_]", since: int
) -> "npt.NDArray[np.bool_]":
    """Return the new rows and a sample of old ones, in the recipe's ratio.

    A weighted draw without replacement (Efraimidis & Spirakis 2006): the rows with the largest `u ** (1 / weight)`. `u`
    depends on row, seed and champion: a resumed run draws the same rows, the next champion's run others.
    """
    import numpy as np

    chosen = new.copy()
    indices = np.flatnonzero(old)
    count = min(len(indices), round(recipe.data.fresh.replay.ratio * int(new.sum())))
    if count:
        uniform = _draw_uniform(rows.column("row_version").take(indices), recipe.training.seed, since)
        keys = np.log(uniform) / _replay_weights(rows, recipe, indices)
        chosen[indices[np.argpartition(-keys, count - 1)[:count]]] = True
    return chosen


def _replay_weights(rows: "pa.Table", recipe: Recipe, indices: "npt.NDArray[np.int64]") -> "npt.NDArray[np.float64]":
    import numpy as np

    rule = recipe.data.fresh.replay
    if rule.by == "recency":
        batches = rows.column("batch").to_numpy()
        weights: npt.NDArray[np.float64] = 0.5 ** np.minimum((batches.max() - batches[indices]) / rule.half_life, 900)
        return weights
    if rule.by == "balance":
        objective = load_objective(recipe.objective.type)
        targets = rows.column(objective.TARGET).take(indices).to_pylist()
        labels = [objective.list_labels([target]) for target in targets]
        counts = Counter(label for row_labels in labels for label in set(row_labels))
        return np.array(
            [1 / min((counts[label] for label in row_labels), default=len(indices)) for row_labels in labels]
        )
    return np.ones(len(indices))


def _draw_uniform(versions: "pa.ChunkedArray", seed: int, since: int) -> "npt.NDArray[np.float64]":
    """Return a number in (0, 1) for each row."""
    import numpy as np

    salt = mix_bits(np.array([BASE], dtype=np.uint64) * np.uint64(seed + 1) + np.uint64(since))
    random_bits = mix_bits(hash_strings(versions.combine_chunks()) ^ salt)
    return ((random_bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
