"""Near-duplicate texts: candidates by MinHash (Broder 1997) and locality-sensitive hashing, judged by shingles."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.data.columns.components import find_repeated, label_components, mask_members
from evertune.data.columns.strings import mix_bits
from evertune.data.splits.minhash import PERMUTATIONS, make_shingles
from evertune.runtime.threads import map_in_threads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

WINDOW = 16  # neighbours compared in an LSH bucket; larger buckets are held together by their first member
PAIRS = 200_000  # pairs of signatures compared at once ...
EXACT = 5_000  # ... and pairs of texts
BANDS = 2  # that are sorted at once: each takes 9 bytes a text
BLOCK = 4096  # signatures whose bands are looked at at once: they stay in the cache
ERRORS = 4  # standard errors by which the signatures' estimate may be below the threshold


def find_shared_buckets(
    fresh: "Iterable[np.ndarray[Any, Any]]", known: "Iterable[np.ndarray[Any, Any]]", threshold: float, scratch: Path
) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Numbers of the fresh and of the known texts that share an LSH bucket with a fresh one: no other can be linked.

    The memory that it takes is that of `BANDS` bands, whatever the number of signatures: the others wait in files.

    Args:
        fresh, known: signatures in parts, (n, 64) each.
        scratch: folder for the files.
    """
    import numpy as np

    rows_per_band = _rows_per_band(threshold)
    sizes = [0, 0]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=scratch)) for _ in range(PERMUTATIONS // rows_per_band)]
        for side, signature_chunks in enumerate((fresh, known)):
            for keys in map_in_threads(
                lambda signatures: _compute_band_keys(signatures, rows_per_band), signature_chunks
            ):
                sizes[side] += len(keys[0])
                for key, file in zip(keys, files, strict=True):
                    key.tofile(file)
        is_shared = np.zeros(sum(sizes), dtype=bool)
        for positions in map_in_threads(
            lambda file: find_repeated(_read_keys(file), sizes[0], can_overwrite=True), files, BANDS
        ):
            is_shared[positions] = True
    return np.flatnonzero(is_shared[: sizes[0]]), np.flatnonzero(is_shared[sizes[0] :])


def _compute_band_keys(signatures: "np.ndarray[Any, Any]", rows_per_band: int) -> "list[np.ndarray[Any, Any]]":
    return [_hash_band(signatures, band, rows_per_band) for band in range(PERMUTATIONS // rows_per_band)]


def _read_keys(file: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    file.seek(0)
    return np.fromfile(file, dtype=np.uint64)


class Bands:
    """The LSH buckets of a few texts: which of many others share one.

    Args:
        found: signatures of the few, (n, 64); threshold: of near duplicates.
    """

    def __init__(self, signatures: "np.ndarray[Any, Any]", threshold: float) -> None:
        import numpy as np

        self._rows = _rows_per_band(threshold)
        self._bands = []
        for band in range(PERMUTATIONS // self._rows):
            prefixes = np.zeros(1 << 16, dtype=bool)  # by the band's first 16 bits: few of the others are left then
            prefixes[signatures[:, band * self._rows]] = True
            self._bands.append((prefixes, np.unique(_hash_band(signatures, band, self._rows))))

    def find_sharing_rows(self, others: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """(m,) which of the others, (m, 64), share a bucket with one of the few."""
        import numpy as np

        is_hit = np.zeros(len(others), dtype=bool)
        for start in range(0, len(others), BLOCK):
            block = others[start : start + BLOCK]
            for band, (prefixes, keys) in enumerate(self._bands):
                candidates = np.flatnonzero(prefixes[block[:, band * self._rows]])
                is_hit[start + candidates[mask_members(_hash_band(block[candidates], band, self._rows), keys)]] = True
        return is_hit


def find_near_duplicates(
    fresh: Any, known: Any, threshold: float, read_texts: "Callable[[Any], pa.Array]"
) -> "np.ndarray[Any, Any]":
    """Pairs of texts that are near duplicates, with a fresh one in each, (k, 2).

    The pairs connect what belongs together and are not all of them. Signatures only propose a pair, its shingles
    decide; texts with the same signature are linked as they are.

    Args:
        fresh, known: signatures, (n, 64) and (m, 64); known rows count from n on.
        threshold: least Jaccard similarity of the shingles.
        texts: gives the normalised texts of all fresh rows and of the known rows with these numbers (below m).
    """
    import numpy as np

    rows_per_band = _rows_per_band(threshold)
    near_known = _find_sharing_rows(fresh, known, rows_per_band)
    signatures = np.concatenate([fresh, known[near_known]])
    row_indices = np.concatenate([np.arange(len(fresh)), len(fresh) + near_known])
    representatives = _find_first_alike(signatures)
    distinct = np.flatnonzero(representatives == np.arange(len(signatures)))
    normal_texts = read_texts(near_known)
    min_estimate = threshold - ERRORS * (threshold * (1 - threshold) / PERMUTATIONS) ** 0.5
    for band in range(PERMUTATIONS // rows_per_band):
        for candidates in _propose_pairs(_hash_band(signatures[distinct], band, rows_per_band)):
            pairs = distinct[candidates]
            pairs = pairs[
                (pairs.min(axis=1) < len(fresh)) & (representatives[pairs[:, 0]] != representatives[pairs[:, 1]])
            ]
            pairs = pairs[_estimate_similarity(signatures, pairs) >= min_estimate]
            representatives = _merge_pairs(
                representatives, pairs[_compute_similarity(normal_texts, pairs) >= threshold]
            )
    all_pairs = np.column_stack([np.arange(len(signatures)), representatives])
    linked_pairs: np.ndarray[Any, Any] = row_indices[all_pairs[all_pairs[:, 0] != representatives]]
    return linked_pairs


def _rows_per_band(threshold: float) -> int:
    """The most selective bands that still find a pair at the threshold in 999 of 1,000 cases."""
    for rows in range(8, 1, -1):
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= 0.001:
            return rows
    return 1


def _hash_band(signatures: "np.ndarray[Any, Any]", band: int, rows_per_band: int) -> "np.ndarray[Any, Any]":
    import numpy as np

    keys = np.zeros(len(signatures), dtype=np.uint64)
    for column in range(band * rows_per_band, (band + 1) * rows_per_band):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + signatures[:, column].astype(np.uint64) + np.uint64(1)
    return mix_bits(keys)


def _find_sharing_rows(fresh: Any, known: Any, rows_per_band: int) -> "np.ndarray[Any, Any]":
    import numpy as np

    is_sharing = np.zeros(len(known), dtype=bool)
    if len(fresh):
        for band in range(PERMUTATIONS // rows_per_band):
            keys = _hash_band(known, band, rows_per_band)
            fresh_keys = np.unique(_hash_band(fresh, band, rows_per_band))
            is_sharing |= fresh_keys[np.minimum(np.searchsorted(fresh_keys, keys), len(fresh_keys) - 1)] == keys
    return np.flatnonzero(is_sharing)


def _find_first_alike(signatures: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Of each signature the position of the first that is the same."""
    import numpy as np

    wide_signatures = np.ascontiguousarray(signatures).view(np.uint64)
    keys = np.zeros(len(wide_signatures), dtype=np.uint64)
    for column in range(wide_signatures.shape[1]):
        keys = mix_bits(keys + wide_signatures[:, column])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    is_alike = (signatures[first[inverse]] == signatures).all(axis=1)  # as good as always: 64 bits stand for 1,024
    return np.where(is_alike, first[inverse], np.arange(len(signatures)))


def _propose_pairs(keys: "np.ndarray[Any, Any]") -> "Iterator[np.ndarray[Any, Any]]":
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


def _merge_pairs(representatives: "np.ndarray[Any, Any]", pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Each position's representative, once the pairs are linked too."""
    import numpy as np

    if not len(pairs):
        return representatives
    ends, codes = np.unique(representatives[pairs], return_inverse=True)
    numbers = label_components(len(ends), codes.reshape(-1, 2))
    heads = np.arange(len(representatives))
    heads[ends] = ends[np.unique(numbers, return_index=True)[1]][numbers]
    merged: np.ndarray[Any, Any] = heads[representatives]
    return merged


def _estimate_similarity(signatures: Any, pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np

    similarity = np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS):
        block = pairs[start : start + PAIRS]
        similarity[start : start + PAIRS] = (signatures[block[:, 0]] == signatures[block[:, 1]]).mean(axis=1)
    return similarity


def _compute_similarity(texts: "pa.Array", pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The Jaccard similarity of each pair's sets of shingles."""
    import numpy as np

    parts = [_compute_jaccard(texts, pairs[start : start + EXACT]) for start in range(0, len(pairs), EXACT)]
    return np.concatenate([np.zeros(0), *parts])


def _compute_jaccard(texts: "pa.Array", pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np
    import pyarrow as pa

    nodes, node_indices = np.unique(pairs, return_inverse=True)
    left, right = node_indices.reshape(-1, 2).T
    sets = make_shingles(texts.take(pa.array(nodes)))
    codes = sets.flatten().dictionary_encode()
    text_indices = np.repeat(np.arange(len(nodes)), np.asarray(sets.value_lengths()))
    keys = np.sort(text_indices * len(codes.dictionary) + codes.indices.to_numpy())
    keys = keys[np.append(True, keys[1:] != keys[:-1])]  # by row, each shingle once
    sizes = np.bincount(keys // len(codes.dictionary), minlength=len(nodes))
    starts = np.cumsum(sizes) - sizes
    counts = sizes[left]
    pair = np.repeat(np.arange(len(pairs)), counts)
    offsets = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    sought_keys = keys[starts[left][pair] + offsets] + (right - left)[pair] * len(codes.dictionary)
    is_shared = keys[np.minimum(np.searchsorted(keys, sought_keys), len(keys) - 1)] == sought_keys
    shared_counts = np.bincount(pair[is_shared], minlength=len(pairs))
    similarity: np.ndarray[Any, Any] = shared_counts / (counts + sizes[right] - shared_counts)
    return similarity
