"""Near-duplicate texts: MinHash signatures (Broder 1997), candidates by locality-sensitive hashing, links."""

import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PERMUTATIONS = 64
SEED = 17
CHUNK = 4096  # texts whose shingles stand in memory at once
WINDOW = 16  # neighbours compared in an LSH bucket; larger buckets are held together by their first member
PAIRS = 200_000  # pairs of signatures compared at once
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


def links(fresh: "np.ndarray[Any, Any]", known: "np.ndarray[Any, Any]", threshold: float) -> "np.ndarray[Any, Any]":
    """Pairs of signatures that are near duplicates, with a fresh one in each, (k, 2).

    The pairs connect what belongs together and are not all of them: identical signatures, and the members of a large
    bucket, are linked through one of them.

    Args:
        fresh, known: signatures, (n, 64) and (m, 64); known rows count from n on.
        threshold: least Jaccard similarity, by the signatures' estimate.
    """
    import numpy as np

    rows = _rows_per_band(threshold)
    near = _sharing_a_band(fresh, known, rows)
    stacked = np.concatenate([fresh, known[near]])
    place = np.concatenate([np.arange(len(fresh)), len(fresh) + near])
    _, first, inverse = np.unique(_as_scalars(stacked), return_index=True, return_inverse=True)
    same = np.column_stack([np.arange(len(stacked)), first[inverse]])
    pairs = [same[(same[:, 0] != same[:, 1]) & (same[:, 1] < len(fresh))]]
    distinct = np.sort(first)
    different = stacked[distinct]
    for band in range(PERMUTATIONS // rows):
        found = distinct[_candidates(_band_keys(different, band, rows))]
        found = found[found.min(axis=1) < len(fresh)]
        pairs.append(found[_confirmed(stacked, found, threshold)])
    linked: np.ndarray[Any, Any] = place[np.concatenate(pairs)]
    return linked


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


def _candidates(keys: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Pairs of positions in one bucket: each with its next `WINDOW` neighbours, and with the bucket's first."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for offset in range(1, min(WINDOW, len(keys) - 1) + 1):
        places = np.flatnonzero(ordered[offset:] == ordered[:-offset])
        pairs.append(np.column_stack([order[places], order[places + offset]]))
        if not len(places):
            return np.concatenate(pairs)
    _, start, inverse = np.unique(ordered, return_index=True, return_inverse=True)
    beyond = np.flatnonzero(np.arange(len(keys)) - start[inverse] > WINDOW)
    pairs.append(np.column_stack([order[start[inverse[beyond]]], order[beyond]]))
    return np.concatenate(pairs)


def _confirmed(found: Any, pairs: "np.ndarray[Any, Any]", threshold: float) -> "np.ndarray[Any, Any]":
    import numpy as np

    agreed = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), PAIRS):
        some = pairs[start : start + PAIRS]
        agreed[start : start + PAIRS] = (found[some[:, 0]] == found[some[:, 1]]).mean(axis=1) >= threshold
    return agreed
