"""How test rows are cut into slices: by label, length, source, and by when they came."""

from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.objectives import shows_pictures

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

WINDOWS = 4  # that the rows which the champion knew are cut into, the oldest first


def slices(
    recipe: "Recipe", objective: Any, inputs: list[Any], targets: list[Any], test: "pa.Table", names: list[str],
    since: int,
) -> dict[str, Any]:  # fmt: skip
    """Name -> (rows,) which rows are in it; a slice of no rows or of all is none.

    Args:
        names: of the labels.
        since: newest batch that the champion knew.
    """
    cuts = {
        "label": lambda: _by_label(objective, targets, names),
        "length": lambda: _by_length(inputs),
        "source": lambda: _by_source(test),
        "window": lambda: _by_window(test, since),
    }
    senseless = {"label": not objective.LABELED, "length": shows_pictures(objective)}
    chosen = [cut for cut in recipe.evaluation.slices if not senseless.get(cut)]
    found = {name: mask for cut in chosen for name, mask in cuts[cut]().items()}
    return {name: mask for name, mask in found.items() if mask.any() and not mask.all()}


def _by_label(objective: Any, targets: list[Any], names: list[str]) -> dict[str, Any]:
    rows_of: dict[str, list[int]] = {name: [] for name in names}
    for row, target in enumerate(targets):
        for name in set(objective.label_values([target])):
            rows_of[name].append(row)
    return {f"label={name}": _mask(len(targets), rows) for name, rows in rows_of.items()}


def _by_length(inputs: list[Any]) -> dict[str, Any]:
    lengths = np.array([sum(map(len, one)) if isinstance(one, tuple) else len(one) for one in inputs])
    third = np.searchsorted(np.quantile(lengths, [1 / 3, 2 / 3]), lengths)
    return {f"length={name}": third == part for part, name in enumerate(("short", "medium", "long"))}


def _by_source(test: "pa.Table") -> dict[str, Any]:
    sources = np.array(test.column("source").to_pylist())
    return {f"source={name}": sources == name for name in sorted(set(sources.tolist()))}


def _by_window(test: "pa.Table", since: int) -> dict[str, Any]:
    """What the champion knew, in windows of about as many rows: by timestamp where every row has one, else by batch.

    A challenger that lost one of them forgets, even where it keeps up on all of them together.
    """
    batches, moments = test.column("batch").to_numpy(), test.column("timestamp")
    old = batches <= since
    timed = moments.null_count == 0
    when = moments.cast("int64").to_numpy() if timed else batches
    if not old.any():
        return {}
    bounds = np.quantile(when[old], np.arange(1, WINDOWS) / WINDOWS, method="lower")
    window = np.searchsorted(bounds, when)
    masks = [old & (window == place) for place in range(WINDOWS)]
    masks = [mask for mask in masks if mask.any()]
    ends = [(when[mask].min(), when[mask].max()) for mask in masks]
    names = _spans(ends, timed)
    found = dict(zip(names, masks, strict=True))
    return found if len(found) > 1 else {}  # one alone is what the gate looks at anyway


def _spans(ends: list[tuple[Any, Any]], timed: bool) -> list[str]:
    """A name for each window, by day where that tells them apart."""
    if not timed:
        return [f"window=batch {one}" if one == last else f"window=batches {one} to {last}" for one, last in ends]
    for unit in ("D", "s", "us"):
        times = [tuple(np.datetime64(int(one), "us").astype(f"datetime64[{unit}]") for one in both) for both in ends]
        if len(set(times)) == len(times):
            break
    return [f"window={first} to {last}" for first, last in times]


def _mask(size: int, rows: list[int]) -> Any:
    mask = np.zeros(size, dtype=bool)
    mask[rows] = True
    return mask
