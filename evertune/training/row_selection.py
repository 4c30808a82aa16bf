"""Which of a snapshot's train rows a retraining learns from: `data.fresh`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.data.columns.strings import BASE, hashes, mixed, same
from evertune.objectives import module

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def learned(rows: "pa.Table", recipe: Recipe, since: int) -> "np.ndarray[Any, Any]":
    """(rows,) whether each row is learned from.

    Args:
        rows: the snapshot's rows with `row_version`, `batch`, `split` and their targets.
        since: batch of the champion's snapshot; rows of later ones are new. 0 where there is none.
    """
    chosen = _by_age(rows, recipe, since)
    most = recipe.data.fresh.examples_per_label
    return chosen if most is None else _few(rows, recipe, chosen, most)


def lacking(rows: "pa.Table", recipe: Recipe, since: int) -> str:
    """What the rows lack to learn from; empty where a model can be trained on them.

    Args:
        rows, since: as for `learned`.
    """
    import numpy as np

    objective, places = module(recipe.objective.type), np.flatnonzero(learned(rows, recipe, since))
    values = objective.label_values(rows.column(objective.TARGET).take(places).to_pylist())
    return shortage(len(places), values, recipe, since)


def shortage(count: int, values: Sequence[str], recipe: Recipe, since: int) -> str:
    """As `lacking`, of the chosen rows.

    Args:
        count: how many they are; values: all their labels, none where targets are no labels.
    """
    which = "train rows that came since the champion" if since and recipe.data.fresh.train_on != "all" else "train rows"
    if not module(recipe.objective.type).LABELED:
        return "" if count else f"no {which}"
    if not values:
        return f"no {which}" if not count else f"the {which} have no label"
    if len(set(values)) < 2:
        return f"the {which} have one label only, {values[0]!r}: there is nothing to tell apart"
    return ""


def _by_age(rows: "pa.Table", recipe: Recipe, since: int) -> "np.ndarray[Any, Any]":
    """(rows,) as `learned`, however many rows a label has."""
    train = same(rows.column("split"), "train")
    fresh = recipe.data.fresh
    if fresh.train_on == "all":
        return train
    new: np.ndarray[Any, Any] = train & (rows.column("batch").to_numpy() > since)
    if fresh.train_on == "new":
        return new
    return _with_old(rows, recipe, new, train & ~new, since)


def _few(rows: "pa.Table", recipe: Recipe, chosen: Any, most: int) -> "np.ndarray[Any, Any]":
    """Of the chosen rows so many of a label at most, drawn by row and seed; a row of several counts for each."""
    import numpy as np

    objective, places = module(recipe.objective.type), np.flatnonzero(chosen)
    targets = rows.column(objective.TARGET).take(places).to_pylist()
    order = np.argsort(_uniform(rows["row_version"].take(places), recipe.training.seed, 0))
    counts, kept = Counter[str](), np.zeros(len(rows), dtype=bool)
    for place in order.tolist():
        labels = set(objective.label_values([targets[place]]))
        if any(counts[label] < most for label in labels):
            kept[places[place]] = True
            counts.update(labels)
    return kept


def _with_old(rows: "pa.Table", recipe: Recipe, new: Any, old: Any, since: int) -> "np.ndarray[Any, Any]":
    """The new rows, and as many old ones for each as the recipe says.

    A weighted draw without replacement (Efraimidis & Spirakis 2006): the rows with the largest `u ** (1 / weight)`. `u`
    comes from row, seed and champion: a resumed run draws the same rows, and the next champion others.
    """
    import numpy as np

    chosen, places = new.copy(), np.flatnonzero(old)
    count = min(len(places), round(recipe.data.fresh.replay.ratio * int(new.sum())))
    if count:
        uniform = _uniform(rows.column("row_version").take(places), recipe.training.seed, since)
        keys = np.log(uniform) / _weights(rows, recipe, places)
        chosen[places[np.argpartition(-keys, count - 1)[:count]]] = True
    return chosen  # type: ignore[no-any-return]


def _weights(rows: "pa.Table", recipe: Recipe, places: "np.ndarray[Any, Any]") -> Any:
    import numpy as np

    rule = recipe.data.fresh.replay
    if rule.by == "recency":
        batches = rows.column("batch").to_numpy()
        return 0.5 ** np.minimum((batches.max() - batches[places]) / rule.half_life, 900)
    if rule.by == "balance":
        objective = module(recipe.objective.type)
        targets = rows.column(objective.TARGET).take(places).to_pylist()
        labels = [objective.label_values([one]) for one in targets]
        counts = Counter(label for found in labels for label in set(found))
        return np.array([1 / min((counts[one] for one in found), default=len(places)) for found in labels])
    return np.ones(len(places))


def _uniform(versions: Any, seed: int, since: int) -> Any:
    """A number in (0, 1) for each row."""
    import numpy as np

    salt = mixed(np.array([BASE], dtype=np.uint64) * np.uint64(seed + 1) + np.uint64(since))
    words = mixed(hashes(versions.combine_chunks()) ^ salt)
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
