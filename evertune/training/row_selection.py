"""Which of a snapshot's train rows a retraining learns from: `data.fresh`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.strings import BASE, hash_strings, mask_equal, mix_bits
from evertune.objectives import load_objective

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def select_train_rows(rows: "pa.Table", recipe: Recipe, since: int) -> "np.ndarray[Any, Any]":
    """(rows,) whether each row is learned from.

    Args:
        rows: the snapshot's rows with `row_version`, `batch`, `split` and their targets.
        since: batch of the champion's snapshot; rows of later ones are new. 0 where there is none.
    """
    chosen = _select_by_age(rows, recipe, since)
    max_per_label = recipe.data.fresh.examples_per_label
    return chosen if max_per_label is None else _limit_per_label(rows, recipe, chosen, max_per_label)


def explain_missing_rows(rows: "pa.Table", recipe: Recipe, since: int) -> str:
    """What the rows lack to learn from; empty where a model can be trained on them.

    Args:
        rows, since: as for `learned`.
    """
    import numpy as np

    objective = load_objective(recipe.objective.type)
    indices = np.flatnonzero(select_train_rows(rows, recipe, since))
    values = objective.list_labels(rows.column(objective.TARGET).take(indices).to_pylist())
    return explain_shortage(len(indices), values, recipe, since)


def explain_shortage(count: int, values: Sequence[str], recipe: Recipe, since: int) -> str:
    """As `lacking`, of the chosen rows.

    Args:
        count: how many they are; values: all their labels, none where targets are no labels.
    """
    rows_in_words = (
        "train rows that came since the champion" if since and recipe.data.fresh.train_on != "all" else "train rows"
    )
    if not load_objective(recipe.objective.type).LABELED:
        return "" if count else f"no {rows_in_words}"
    if not values:
        return f"no {rows_in_words}" if not count else f"the {rows_in_words} have no label"
    if len(set(values)) < 2:
        return f"the {rows_in_words} have one label only, {values[0]!r}: there is nothing to tell apart"
    return ""


def _select_by_age(rows: "pa.Table", recipe: Recipe, since: int) -> "np.ndarray[Any, Any]":
    """(rows,) as `learned`, however many rows a label has."""
    train = mask_equal(rows.column("split"), "train")
    fresh = recipe.data.fresh
    if fresh.train_on == "all":
        return train
    new: np.ndarray[Any, Any] = train & (rows.column("batch").to_numpy() > since)
    if fresh.train_on == "new":
        return new
    return _add_replay(rows, recipe, new, train & ~new, since)


def _limit_per_label(rows: "pa.Table", recipe: Recipe, chosen: Any, max_per_label: int) -> "np.ndarray[Any, Any]":
    """Of the chosen rows so many of a label at most, drawn by row and seed; a row of several counts for each."""
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


def _add_replay(rows: "pa.Table", recipe: Recipe, new: Any, old: Any, since: int) -> "np.ndarray[Any, Any]":
    """The new rows, and as many old ones for each as the recipe says.

    A weighted draw without replacement (Efraimidis & Spirakis 2006): the rows with the largest `u ** (1 / weight)`. `u`
    comes from row, seed and champion: a resumed run draws the same rows, and the next champion others.
    """
    import numpy as np

    chosen = new.copy()
    indices = np.flatnonzero(old)
    count = min(len(indices), round(recipe.data.fresh.replay.ratio * int(new.sum())))
    if count:
        uniform = _draw_uniform(rows.column("row_version").take(indices), recipe.training.seed, since)
        keys = np.log(uniform) / _replay_weights(rows, recipe, indices)
        chosen[indices[np.argpartition(-keys, count - 1)[:count]]] = True
    return chosen  # type: ignore[no-any-return]


def _replay_weights(rows: "pa.Table", recipe: Recipe, indices: "np.ndarray[Any, Any]") -> Any:
    import numpy as np

    rule = recipe.data.fresh.replay
    if rule.by == "recency":
        batches = rows.column("batch").to_numpy()
        return 0.5 ** np.minimum((batches.max() - batches[indices]) / rule.half_life, 900)
    if rule.by == "balance":
        objective = load_objective(recipe.objective.type)
        targets = rows.column(objective.TARGET).take(indices).to_pylist()
        labels = [objective.list_labels([target]) for target in targets]
        counts = Counter(label for row_labels in labels for label in set(row_labels))
        return np.array(
            [1 / min((counts[label] for label in row_labels), default=len(indices)) for row_labels in labels]
        )
    return np.ones(len(indices))


def _draw_uniform(versions: Any, seed: int, since: int) -> Any:
    """A number in (0, 1) for each row."""
    import numpy as np

    salt = mix_bits(np.array([BASE], dtype=np.uint64) * np.uint64(seed + 1) + np.uint64(since))
    random_bits = mix_bits(hash_strings(versions.combine_chunks()) ^ salt)
    return ((random_bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
