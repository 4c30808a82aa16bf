"""Cut test rows into slices: by label, length, source, and time of arrival."""

from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.objectives import Objective

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe

WINDOWS = 4  # windows of the rows that the champion knows, oldest first


def cut_slices(
    recipe: "Recipe",
    objective: Objective,
    inputs: list[Any],
    targets: list[Any],
    test: "pa.Table",
    names: list[str],
    since: int,
) -> dict[str, Any]:
    """Return slice name -> mask (rows,); slices without rows, or with all rows, are left out.

    Args:
        recipe: the model's recipe.
        objective: its module.
        inputs: of the test rows.
        targets: of the test rows.
        test: the test rows.
        names: the labels.
        since: newest batch that the champion knows.
    """
    cuts = {
        "label": lambda: _by_label(objective, targets, names),
        "length": lambda: _by_length(inputs),
        "source": lambda: _by_source(test),
        "window": lambda: _by_window(test, since),
    }
    unsuitable = {"label": not objective.LABELED, "length": objective.shows_pictures}
    chosen = [cut for cut in recipe.evaluation.slices if not unsuitable.get(cut)]
    masks = {name: mask for cut in chosen for name, mask in cuts[cut]().items()}
    return {name: mask for name, mask in masks.items() if mask.any() and not mask.all()}


def _by_label(objective: Objective, targets: list[Any], names: list[str]) -> dict[str, Any]:
    rows_by_label: dict[str, list[int]] = {name: [] for name in names}
    for row, target in enumerate(targets):
        for name in set(objective.list_labels([target])):
            rows_by_label[name].append(row)
    return {f"label={name}": _build_mask(len(targets), rows) for name, rows in rows_by_label.items()}


def _by_length(inputs: list[Any]) -> dict[str, Any]:
    lengths = np.array([sum(map(len, text)) if isinstance(text, tuple) else len(text) for text in inputs])
    third = np.searchsorted(np.quantile(lengths, [1 / 3, 2 / 3]), lengths)
    return {f"length={name}": third == part for part, name in enumerate(("short", "medium", "long"))}


def _by_source(test: "pa.Table") -> dict[str, Any]:
    sources = np.array(test.column("source").to_pylist())
    return {f"source={name}": sources == name for name in sorted(set(sources.tolist()))}


def _by_window(test: "pa.Table", since: int) -> dict[str, Any]:
    """Cut the rows that the champion knows into windows of similar size, by timestamp if every row has one.

    Without timestamps they are cut by batch.

    A challenger that is worse in one window has forgotten it, even if it is as good on all of them together.
    """
    batches = test.column("batch").to_numpy()
    moments = test.column("timestamp")
    old = batches <= since
    has_times = moments.null_count == 0
    moments_or_batches = moments.cast("int64").to_numpy() if has_times else batches
    if not old.any():
        return {}
    bounds = np.quantile(moments_or_batches[old], np.arange(1, WINDOWS) / WINDOWS, method="lower")
    window = np.searchsorted(bounds, moments_or_batches)
    masks = [old & (window == index) for index in range(WINDOWS)]
    masks = [mask for mask in masks if mask.any()]
    ends = [(moments_or_batches[mask].min(), moments_or_batches[mask].max()) for mask in masks]
    names = _name_windows(ends, has_times)
    masks_by_name = dict(zip(names, masks, strict=True))
    return masks_by_name if len(masks_by_name) > 1 else {}  # a single window is the gate's `history`


def _name_windows(ends: list[tuple[Any, Any]], has_times: bool) -> list[str]:
    """Return a name for each window, by day if days are distinct, else by a finer unit."""
    if not has_times:
        return [
            f"window=batch {first}" if first == last else f"window=batches {first} to {last}" for first, last in ends
        ]
    for unit in ("D", "s", "us"):
        times = [
            tuple(np.datetime64(int(end), "us").astype(f"datetime64[{unit}]") for end in window_ends)
            for window_ends in ends
        ]
        if len(set(times)) == len(times):
            break
    return [f"window={first} to {last}" for first, last in times]


def _build_mask(size: int, rows: list[int]) -> Any:
    mask = np.zeros(size, dtype=bool)
    mask[rows] = True
    return mask
