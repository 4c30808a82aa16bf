"""Find near-duplicate texts: MinHash (Broder 1997) and locality-sensitive hashing propose pairs, shingles decide."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from evertune.data.columns.components import find_repeated, label_components, mask_members
from evertune.data.columns.strings import mix_bits
from evertune.data.splits.minhash import PERMUTATIONS, make_shingles
from evertune.runtime.threads import map_in_threads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

WINDOW = 16  # neighbours compared in an LSH bucket; in larger buckets each is also compared with the first
PAIRS = 200_000  # pairs of signatures compared at once ...
EXACT = 5_000  # ... and pairs of texts
BANDS = 2  # bands that are sorted at once: each takes 9 bytes per text
BLOCK = 4096  # signatures whose bands are compared at once: they stay in the cache
ERRORS = 4  # standard errors by which the signatures' estimate may be below the threshold


def find_shared_buckets(
    fresh: "Iterable[np.ndarray]", known: "Iterable[np.ndarray]", threshold: float, scratch: Path
) -> "tuple[np.ndarray, np.ndarray]":
    """Return the indices of the fresh and of the known texts that share an LSH bucket with another fresh one.

    No other text can be linked. Memory holds `BANDS` bands at a time; the others wait in files.

    Args:
        fresh: signatures in chunks of (n, 64).
        known: like `fresh`.
        threshold: least Jaccard similarity of near duplicates.
        scratch: folder for the files.
    """
    import numpy as np

    rows_per_band = _rows_per_band(threshold)
    sizes = [0, 0]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=scratch)) for _ in range(PERMUTATIONS // rows_per_band)]
        compute_keys = partial(_compute_band_keys, rows_per_band=rows_per_band)
        for side, signature_chunks in enumerate((fresh, known)):
            for keys in map_in_threads(compute_keys, signature_chunks):
                sizes[side] += len(keys[0])
                for key, file in zip(keys, files, strict=True):
                    key.tofile(file)

        is_shared = np.zeros(sum(sizes), dtype=bool)
        find_shared = partial(_find_repeated_keys, fresh_count=sizes[0])
        for positions in map_in_threads(find_shared, files, BANDS):
            is_shared[positions] = True
    return np.flatnonzero(is_shared[: sizes[0]]), np.flatnonzero(is_shared[sizes[0] :])


def _compute_band_keys(signatures: "np.ndarray", rows_per_band: int) -> "list[np.ndarray]":
    return [_hash_band(signatures, band, rows_per_band) for band in range(PERMUTATIONS // rows_per_band)]


def _find_repeated_keys(file: IO[bytes], fresh_count: int) -> "np.ndarray":
    import numpy as np

    file.seek(0)
    return find_repeated(np.fromfile(file, dtype=np.uint64), fresh_count, can_overwrite=True)


class Bands:
    """The LSH buckets of a few texts, to find which of many other texts share one.

    Args:
        signatures: of the few texts, (n, 64).
        threshold: least Jaccard similarity of near duplicates.
    """

    def __init__(self, signatures: "np.ndarray", threshold: float) -> None:
        import numpy as np

        self._rows_per_band = _rows_per_band(threshold)
        self._bands = []
        for band in range(PERMUTATIONS // self._rows_per_band):
            # The first 16 bits of a band leave few of the other texts to compare.
            prefixes = np.zeros(1 << 16, dtype=bool)
            prefixes[signatures[:, band * self._rows_per_band]] = True
            self._bands.append((prefixes, np.unique(_hash_band(signatures, band, self._rows_per_band))))

    def find_sharing_rows(self, others: "np.ndarray") -> "np.ndarray":
        """Return a mask (m,) of the signatures, (m, 64), that share a bucket with one of the few texts."""
        import numpy as np

        is_hit = np.zeros(len(others), dtype=bool)
        for start in range(0, len(others), BLOCK):
            block = others[start : start + BLOCK]
            for band, (prefixes, keys) in enumerate(self._bands):
                candidates = np.flatnonzero(prefixes[block[:, band * self._rows_per_band]])
                candidate_keys = _hash_band(block[candidates], band, self._rows_per_band)
                is_hit[start + candidates[mask_members(candidate_keys, keys)]] = True
        return is_hit


def find_near_duplicates(
    fresh: "np.ndarray", known: "np.ndarray", threshold: float, read_texts: "Callable[[np.ndarray], pa.Array]"
) -> "np.ndarray":
    """Return pairs of texts that are near duplicates, with a fresh one in each, (k, 2).

    The pairs connect all near duplicates but are not all pairs. Signatures only propose a pair, its shingles decide;
    texts with equal signatures are linked without a comparison.

    Args:
        fresh: signatures, (n, 64).
        known: signatures, (m, 64); their indices count from n on.
        threshold: least Jaccard similarity of the shingles.
        read_texts: returns the normalised texts of all fresh rows and of the known rows with these indices (below m).
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
            has_fresh = pairs.min(axis=1) < len(fresh)
            is_unlinked = representatives[pairs[:, 0]] != representatives[pairs[:, 1]]
            pairs = pairs[has_fresh & is_unlinked]
            pairs = pairs[_estimate_similarity(signatures, pairs) >= min_estimate]
            pairs = pairs[_compute_similarity(normal_texts, pairs) >= threshold]
            representatives = _merge_pairs(representatives, pairs)
    all_pairs = np.column_stack([np.arange(len(signatures)), representatives])
    linked_pairs: np.ndarray = row_indices[all_pairs[all_pairs[:, 0] != representatives]]
    return linked_pairs


def _rows_per_band(threshold: float) -> int:
    """Return the most rows per band that still find a pair at the threshold in 999 of 1,000 cases."""
    for rows in range(8, 1, -1):
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= 0.001:
            return rows
    return 1


def _hash_band(signatures: "np.ndarray", band: int, rows_per_band: int) -> "np.ndarray":
    import numpy as np

    keys = np.zeros(len(signatures), dtype=np.uint64)
    for column in range(band * rows_per_band, (band + 1) * rows_per_band):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + signatures[:, column].astype(np.uint64) + np.uint64(1)
    return mix_bits(keys)


def _find_sharing_rows(fresh: "np.ndarray", known: "np.ndarray", rows_per_band: int) -> "np.ndarray":
    """Return the indices of the known texts that share an LSH bucket with a fresh one."""
    import numpy as np

    is_sharing = np.zeros(len(known), dtype=bool)
    if len(fresh):
        for band in range(PERMUTATIONS // rows_per_band):
            keys = _hash_band(known, band, rows_per_band)
            fresh_keys = np.unique(_hash_band(fresh, band, rows_per_band))
            is_sharing |= fresh_keys[np.minimum(np.searchsorted(fresh_keys, keys), len(fresh_keys) - 1)] == keys
    return np.flatnonzero(is_sharing)


def _find_first_alike(signatures: "np.ndarray") -> "np.ndarray":
    """Return for each signature the index of the first equal one."""
    import numpy as np

    wide_signatures = np.ascontiguousarray(signatures).view(np.uint64)
    keys = np.zeros(len(wide_signatures), dtype=np.uint64)
    for column in range(wide_signatures.shape[1]):
        keys = mix_bits(keys + wide_signatures[:, column])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    is_alike = (signatures[first[inverse]] == signatures).all(
        axis=1
    )  # nearly always true: a collision of 64-bit hashes is rare
    return np.where(is_alike, first[inverse], np.arange(len(signatures)))


def _propose_pairs(keys: "np.ndarray") -> "Iterator[np.ndarray]":
    """Yield pairs of indices in one bucket: each with the bucket's first, then with its next `WINDOW` neighbours."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(keys)])
    first = np.repeat(starts, np.diff(np.append(starts, len(keys))))
    rest = np.flatnonzero(first != np.arange(len(keys)))
    yield np.column_stack([order[first[rest]], order[rest]])
    for offset in range(1, WINDOW + 1):
        rest = rest[rest > first[rest] + offset]  # for the others the neighbour at this distance is the first
        if not len(rest):
            return
        yield np.column_stack([order[rest - offset], order[rest]])


def _merge_pairs(representatives: "np.ndarray", pairs: "np.ndarray") -> "np.ndarray":
    """Return the representatives after linking the pairs."""
    import numpy as np

    if not len(pairs):
        return representatives
    ends, codes = np.unique(representatives[pairs], return_inverse=True)
    numbers = label_components(len(ends), codes.reshape(-1, 2))
    heads = np.arange(len(representatives))
    heads[ends] = ends[np.unique(numbers, return_index=True)[1]][numbers]
    merged: np.ndarray = heads[representatives]
    return merged


def _estimate_similarity(signatures: "np.ndarray", pairs: "np.ndarray") -> "np.ndarray":
    """Return the share of equal hashes in each pair's signatures, an estimate of their Jaccard similarity."""
    import numpy as np

    similarity = np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS):
        block = pairs[start : start + PAIRS]
        similarity[start : start + PAIRS] = (signatures[block[:, 0]] == signatures[block[:, 1]]).mean(axis=1)
    return similarity


def _compute_similarity(texts: "pa.Array", pairs: "np.ndarray") -> "np.ndarray":
    """Return the Jaccard similarity of each pair's sets of shingles."""
    import numpy as np

    parts = [_compute_jaccard(texts, pairs[start : start + EXACT]) for start in range(0, len(pairs), EXACT)]
    return np.concatenate([np.zeros(0), *parts])


def _compute_jaccard(texts: "pa.Array", pairs: "np.ndarray") -> "np.ndarray":
    """Return the Jaccard similarities: search the shingles of each pair's left text among those of its right text."""
    import numpy as np
    import pyarrow as pa

    nodes, node_indices = np.unique(pairs, return_inverse=True)
    left, right = node_indices.reshape(-1, 2).T
    sets = make_shingles(texts.take(pa.array(nodes)))
    codes = sets.flatten().dictionary_encode()
    text_indices = np.repeat(np.arange(len(nodes)), np.asarray(sets.value_lengths()))
    keys = np.sort(text_indices * len(codes.dictionary) + codes.indices.to_numpy())
    keys = keys[np.append(True, keys[1:] != keys[:-1])]  # each shingle once per text
    sizes = np.bincount(keys // len(codes.dictionary), minlength=len(nodes))
    starts = np.cumsum(sizes) - sizes
    counts = sizes[left]
    pair = np.repeat(np.arange(len(pairs)), counts)
    offsets = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
    sought_keys = keys[starts[left][pair] + offsets] + (right - left)[pair] * len(codes.dictionary)
    is_shared = keys[np.minimum(np.searchsorted(keys, sought_keys), len(keys) - 1)] == sought_keys
    shared_counts = np.bincount(pair[is_shared], minlength=len(pairs))
    similarity: np.ndarray = shared_counts / (counts + sizes[right] - shared_counts)
    return similarity
