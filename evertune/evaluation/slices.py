"""Cut test rows into slices: by label, length, source, and time of arrival."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from evertune.evaluation.row_facts import RowFacts

Mask = NDArray[np.bool_]
Slices = dict[str, Mask]

WINDOWS = 4  # windows of the rows that the champion knows, oldest first


def cut_slices(cuts: Collection[str], facts: "RowFacts", since: int) -> Slices:
    """Return slice name -> mask (rows,); slices without rows, or with all rows, are left out.

    Args:
        cuts: `label`, `length`, `source` and `window`, as the recipe's `evaluation.slices` names them.
        facts: of the test rows.
        since: newest batch that the champion knows.
    """
    masks: Slices = {}
    for cut in cuts:
        if cut == "label":
            masks |= _by_label(facts)
        elif cut == "length" and len(facts.lengths):
            masks |= _by_length(facts.lengths)
        elif cut == "source":
            masks |= _by_source(facts.sources)
        elif cut == "window":
            masks |= _by_window(facts, since)
    return {name: mask for name, mask in masks.items() if mask.any() and not mask.all()}


def _by_label(facts: "RowFacts") -> Slices:
    masks = {}
    for index, name in enumerate(facts.names):
        mask = np.zeros(len(facts), dtype=bool)
        mask[facts.label_rows[facts.label_ids == index]] = True
        masks[f"label={name}"] = mask
    return masks


def _by_length(lengths: NDArray[np.float64]) -> Slices:
    third = np.searchsorted(np.quantile(lengths, [1 / 3, 2 / 3]), lengths)
    return {f"length={name}": third == part for part, name in enumerate(("short", "medium", "long"))}


def _by_source(sources: NDArray[np.str_]) -> Slices:
    return {f"source={name}": sources == name for name in sorted(set(sources.tolist()))}


def _by_window(facts: "RowFacts", since: int) -> Slices:
    """Cut the rows that the champion knows into windows of similar size, by timestamp if every row has one.

    Without timestamps they are cut by batch.

    A challenger that is worse in one window has forgotten it, even if it is as good on all of them together.
    """
    old = facts.batches <= since
    if not old.any():
        return {}
    moments_or_batches = facts.moments if facts.has_times else facts.batches
    bounds = np.quantile(moments_or_batches[old], np.arange(1, WINDOWS) / WINDOWS, method="lower")
    window = np.searchsorted(bounds, moments_or_batches)
    masks = [old & (window == index) for index in range(WINDOWS)]
    masks = [mask for mask in masks if mask.any()]
    ends = [(int(moments_or_batches[mask].min()), int(moments_or_batches[mask].max())) for mask in masks]
    masks_by_name = dict(zip(_name_windows(ends, facts.has_times), masks, strict=True))
    return masks_by_name if len(masks_by_name) > 1 else {}  # a single window is the gate's `history`


def _name_windows(ends: list[tuple[int, int]], has_times: bool) -> list[str]:
    """Return a name for each window, by day if days are distinct, else by a finer unit."""
    if not has_times:
        return [
            f"window=batch {first}" if first == last else f"window=batches {first} to {last}" for first, last in ends
        ]
    for unit in ("D", "s", "us"):
        times = [
            tuple(np.datetime64(end, "us").astype(f"datetime64[{unit}]") for end in window_ends) for window_ends in ends
        ]
        if len(set(times)) == len(times):
            break
    return [f"window={first} to {last}" for first, last in times]
