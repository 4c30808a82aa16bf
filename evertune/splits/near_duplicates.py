"""Near-duplicate texts: candidates by MinHash (Broder 1997) and locality-sensitive hashing, judged by shingles."""

import unicodedata
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from evertune.components import connected

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PERMUTATIONS = 64
SEED = 17
CHUNK = 4096  # texts whose shingles stand in memory at once
WINDOW = 16  # neighbours compared in an LSH bucket; larger buckets are held together by their first member
PAIRS = 200_000  # pairs of signatures compared at once ...
EXACT = 5_000  # ... and pairs of texts
ERRORS = 3  # standard errors by which the signatures' estimate may be below the threshold
NO_SPACES = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


def normalised(inputs: Any) -> "pa.Array":
    """The input as comparisons see it: NFKC, lower case, no punctuation, single spaces.

    Scripts that are written without spaces get one around every character. A text of punctuation alone stays as it is.

    Args:
        inputs: strings, or lists of strings that count as words.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.binary_join(inputs, " ") if pa.types.is_list(inputs.type) else inputs
    # pyarrow 25's utf8_normalize leaves NFC and NFKC decomposed, and is slower than this
    composed = [unicodedata.normalize("NFKC", text or "").lower() for text in texts.to_pylist()]
    lower = pc.utf8_trim_whitespace(pa.array(composed, pa.string()))
    spaced = pc.replace_substring_regex(lower, NO_SPACES, r" \1 ")
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(spaced, r"[^\p{L}\p{M}\p{N}]+", " "))
    return pc.if_else(pc.equal(words, ""), lower, words)


def signatures(normal: "pa.Array") -> "np.ndarray[Any, Any]":
    """MinHash signatures over word 3-shingles, (texts, 64), the lower 16 bits of each minimum.

    Sixteen bits are b-bit MinHash (Li and König 2010): two minima that differ agree by chance once in 65,536.

    Args:
        normal: from `normalised`; a text of fewer than three words is one shingle.
    """
    import numpy as np
    import rensa

    found = np.zeros((len(normal), PERMUTATIONS), dtype=np.uint16)
    for start in range(0, len(normal), CHUNK):
        sets = shingles(normal.slice(start, CHUNK)).to_pylist()
        rows = rensa.RMinHash.digest_matrix_from_token_sets(sets, num_perm=PERMUTATIONS, seed=SEED).to_rows()
        found[start : start + len(rows)] = np.array(rows, dtype=np.uint32).astype(np.uint16)
    return found


def shingles(normal: "pa.Array") -> "pa.ListArray":
    """Every three words in a row of each text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    split = pc.split_pattern(normal, " ")
    counts = np.asarray(split.value_lengths())
    words = split.flatten()
    starts = np.cumsum(counts) - counts
    inside = np.arange(len(words)) - np.repeat(starts, counts) <= np.repeat(counts, counts) - 3
    three = np.flatnonzero(inside)
    joined = pc.binary_join_element_wise(words.take(three), words.take(three + 1), words.take(three + 2), " ")
    sizes = np.maximum(counts - 2, 0)
    short = np.flatnonzero(sizes == 0)
    places = np.concatenate([np.repeat(np.arange(len(normal)), sizes), short])
    every = pa.concat_arrays([joined, normal.take(short)]).take(np.argsort(places, kind="stable"))
    offsets = np.concatenate([[0], np.cumsum(np.maximum(sizes, 1))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, every)


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
    _, first, inverse = np.unique(_as_scalars(stacked), return_index=True, return_inverse=True)
    joined, distinct, normal = first[inverse], np.sort(first), texts(near)
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
    return keys


def _sharing_a_band(fresh: Any, known: Any, rows: int) -> "np.ndarray[Any, Any]":
    import numpy as np

    sharing = np.zeros(len(known), dtype=bool)
    if len(fresh):
        for band in range(PERMUTATIONS // rows):
            keys, wanted = _band_keys(known, band, rows), np.unique(_band_keys(fresh, band, rows))
            sharing |= wanted[np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)] == keys
    return np.flatnonzero(sharing)


def _as_scalars(found: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    import numpy as np

    return np.ascontiguousarray(found).view(np.dtype((np.void, found.dtype.itemsize * found.shape[1])))[:, 0]


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
