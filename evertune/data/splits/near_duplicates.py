"""Near-duplicate texts: candidates by MinHash (Broder 1997) and locality-sensitive hashing, judged by shingles."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.data.columns.components import connected, repeated, within
from evertune.data.columns.strings import mixed
from evertune.data.splits.minhash import PERMUTATIONS, shingles
from evertune.runtime.threads import mapped

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

WINDOW = 16  # neighbours compared in an LSH bucket; larger buckets are held together by their first member
PAIRS = 200_000  # pairs of signatures compared at once ...
EXACT = 5_000  # ... and pairs of texts
BANDS = 2  # that are sorted at once: each takes 9 bytes a text
BLOCK = 4096  # signatures whose bands are looked at at once: they stay in the cache
ERRORS = 4  # standard errors by which the signatures' estimate may be below the threshold


def sharing(
    fresh: "Iterable[np.ndarray[Any, Any]]", known: "Iterable[np.ndarray[Any, Any]]", threshold: float, scratch: Path
) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Numbers of the fresh and of the known texts that share an LSH bucket with a fresh one: no other can be linked.

    The memory that it takes is that of `BANDS` bands, whatever the number of signatures: the others wait in files.

    Args:
        fresh, known: signatures in parts, (n, 64) each.
        scratch: folder for the files.
    """
    import numpy as np

    rows, sizes = _rows_per_band(threshold), [0, 0]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=scratch)) for _ in range(PERMUTATIONS // rows)]
        for which, parts in enumerate((fresh, known)):
            for keys in mapped(lambda found: _keys(found, rows), parts):
                sizes[which] += len(keys[0])
                for key, file in zip(keys, files, strict=True):
                    key.tofile(file)
        met = np.zeros(sum(sizes), dtype=bool)
        for places in mapped(lambda file: repeated(_keys_of(file), sizes[0], spare=True), files, BANDS):
            met[places] = True
    return np.flatnonzero(met[: sizes[0]]), np.flatnonzero(met[sizes[0] :])


def _keys(found: "np.ndarray[Any, Any]", rows: int) -> "list[np.ndarray[Any, Any]]":
    return [_band_keys(found, band, rows) for band in range(PERMUTATIONS // rows)]


def _keys_of(file: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    file.seek(0)
    return np.fromfile(file, dtype=np.uint64)


class Bands:
    """The LSH buckets of a few texts: which of many others share one.

    Args:
        found: signatures of the few, (n, 64); threshold: of near duplicates.
    """

    def __init__(self, found: "np.ndarray[Any, Any]", threshold: float) -> None:
        import numpy as np

        self._rows = _rows_per_band(threshold)
        self._bands = []
        for band in range(PERMUTATIONS // self._rows):
            begins = np.zeros(1 << 16, dtype=bool)  # by the band's first 16 bits: few of the others are left then
            begins[found[:, band * self._rows]] = True
            self._bands.append((begins, np.unique(_band_keys(found, band, self._rows))))

    def met(self, others: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """(m,) which of the others, (m, 64), share a bucket with one of the few."""
        import numpy as np

        hit = np.zeros(len(others), dtype=bool)
        for start in range(0, len(others), BLOCK):
            block = others[start : start + BLOCK]
            for band, (begins, keys) in enumerate(self._bands):
                some = np.flatnonzero(begins[block[:, band * self._rows]])
                hit[start + some[within(_band_keys(block[some], band, self._rows), keys)]] = True
        return hit


def links(fresh: Any, known: Any, threshold: float, texts: "Callable[[Any], pa.Array]") -> "np.ndarray[Any, Any]":
    """Pairs of texts that are near duplicates, with a fresh one in each, (k, 2).

    The pairs connect what belongs together and are not all of them. Signatures only propose a pair, its shingles
    decide; texts with the same signature are linked as they are.

    Args:
        fresh, known: signatures, (n, 64) and (m, 64); known rows count from n on.
        threshold: least Jaccard similarity of the shingles.
        texts: gives the normalised texts of all fresh rows and of the known rows with these numbers (below m).
    """
    import numpy as np

    rows = _rows_per_band(threshold)
    near = _sharing_a_band(fresh, known, rows)
    stacked = np.concatenate([fresh, known[near]])
    place = np.concatenate([np.arange(len(fresh)), len(fresh) + near])
    joined = _first_alike(stacked)
    distinct, normal = np.flatnonzero(joined == np.arange(len(stacked))), texts(near)
    likely = threshold - ERRORS * (threshold * (1 - threshold) / PERMUTATIONS) ** 0.5
    for band in range(PERMUTATIONS // rows):
        for some in _candidates(_band_keys(stacked[distinct], band, rows)):
            pairs = distinct[some]
            pairs = pairs[(pairs.min(axis=1) < len(fresh)) & (joined[pairs[:, 0]] != joined[pairs[:, 1]])]
            pairs = pairs[_estimated(stacked, pairs) >= likely]
            joined = _merged(joined, pairs[_similarity(normal, pairs) >= threshold])
    linked = np.column_stack([np.arange(len(stacked)), joined])
    found: np.ndarray[Any, Any] = place[linked[linked[:, 0] != joined]]
    return found


def _rows_per_band(threshold: float) -> int:
    """The most selective bands that still find a pair at the threshold in 999 of 1,000 cases."""
    for rows in range(8, 1, -1):
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= 0.001:
            return rows
    return 1


def _band_keys(found: "np.ndarray[Any, Any]", band: int, rows: int) -> "np.ndarray[Any, Any]":
    import numpy as np

    keys = np.zeros(len(found), dtype=np.uint64)
    for column in range(band * rows, (band + 1) * rows):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + found[:, column].astype(np.uint64) + np.uint64(1)
    return mixed(keys)


def _sharing_a_band(fresh: Any, known: Any, rows: int) -> "np.ndarray[Any, Any]":
    import numpy as np

    sharing = np.zeros(len(known), dtype=bool)
    if len(fresh):
        for band in range(PERMUTATIONS // rows):
            keys, wanted = _band_keys(known, band, rows), np.unique(_band_keys(fresh, band, rows))
            sharing |= wanted[np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)] == keys
    return np.flatnonzero(sharing)


def _first_alike(found: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Of each signature the position of the first that is the same."""
    import numpy as np

    wide = np.ascontiguousarray(found).view(np.uint64)
    keys = np.zeros(len(wide), dtype=np.uint64)
    for column in range(wide.shape[1]):
        keys = mixed(keys + wide[:, column])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    alike = (found[first[inverse]] == found).all(axis=1)  # as good as always: 64 bits stand for 1,024
    return np.where(alike, first[inverse], np.arange(len(found)))


def _candidates(keys: "np.ndarray[Any, Any]") -> "Iterator[np.ndarray[Any, Any]]":
    """Pairs of positions in one bucket: each with the bucket's first, then each with its next `WINDOW` neighbours."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(keys)])
    first = np.repeat(starts, np.diff(np.append(starts, len(keys))))
    rest = np.flatnonzero(first != np.arange(len(keys)))
    yield np.column_stack([order[first[rest]], order[rest]])
    for offset in range(1, WINDOW + 1):
        rest = rest[rest > first[rest] + offset]  # the others have no neighbour at this distance but the first
        if not len(rest):
            return
        yield np.column_stack([order[rest - offset], order[rest]])


def _merged(joined: "np.ndarray[Any, Any]", pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Each position's representative, once the pairs are linked too."""
    import numpy as np

    if not len(pairs):
        return joined
    ends, codes = np.unique(joined[pairs], return_inverse=True)
    numbers = connected(len(ends), codes.reshape(-1, 2))
    head = np.arange(len(joined))
    head[ends] = ends[np.unique(numbers, return_index=True)[1]][numbers]
    merged: np.ndarray[Any, Any] = head[joined]
    return merged


def _estimated(found: Any, pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np

    share = np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS):
        some = pairs[start : start + PAIRS]
        share[start : start + PAIRS] = (found[some[:, 0]] == found[some[:, 1]]).mean(axis=1)
    return share


def _similarity(normal: "pa.Array", pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The Jaccard similarity of each pair's sets of shingles."""
    import numpy as np

    parts = [_jaccard(normal, pairs[start : start + EXACT]) for start in range(0, len(pairs), EXACT)]
    return np.concatenate([np.zeros(0), *parts])


def _jaccard(normal: "pa.Array", pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np
    import pyarrow as pa

    nodes, place = np.unique(pairs, return_inverse=True)
    left, right = place.reshape(-1, 2).T
    sets = shingles(normal.take(pa.array(nodes)))
    codes = sets.flatten().dictionary_encode()
    row = np.repeat(np.arange(len(nodes)), np.asarray(sets.value_lengths()))
    keys = np.sort(row * len(codes.dictionary) + codes.indices.to_numpy())
    keys = keys[np.append(True, keys[1:] != keys[:-1])]  # by row, each shingle once
    sizes = np.bincount(keys // len(codes.dictionary), minlength=len(nodes))
    starts, counts = np.cumsum(sizes) - sizes, sizes[left]
    pair = np.repeat(np.arange(len(pairs)), counts)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    wanted = keys[starts[left][pair] + within] + (right - left)[pair] * len(codes.dictionary)
    hit = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    both = np.bincount(pair[hit], minlength=len(pairs))
    similarity: np.ndarray[Any, Any] = both / (counts + sizes[right] - both)
    return similarity
