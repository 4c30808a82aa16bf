"""Texts as comparisons see them: normalised, as word shingles, as MinHash signatures (Broder 1997)."""

import functools
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evertune.data.columns.strings import BASE, contents, mixed, part_hashes, slices
from evertune.data.splits.image_hash import worded
from evertune.runtime.threads import mapped

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PICTURES = "image"  # the role of all pictures
PERMUTATIONS = 64
SEED = 17
BLOCK = 8192  # texts whose shingles are permuted at once: few calls of numpy, and all stays in the cache
SPACE = ord(" ")
NO_SPACES = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


def comparable(inputs: Any, role: str) -> "pa.Array":
    """What is compared of the inputs under a role: pictures in words, texts as `normalised` gives them."""
    return normalised(worded(inputs) if role == PICTURES else inputs)


def normalised(inputs: Any) -> "pa.Array":
    """The input as comparisons see it: NFKC, lower case, no punctuation, single spaces.

    Scripts that are written without spaces get one around every character. A text of punctuation alone stays as it is.

    Args:
        inputs: strings, or lists of strings that count as words.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.binary_join(inputs, " ") if pa.types.is_list(inputs.type) else inputs
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    parts = [part for chunk in chunks for part in slices(pc.fill_null(chunk, ""))]
    return pa.concat_arrays([pa.array([], pa.string()), *mapped(_normalised, parts)])


def _normalised(texts: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.string_is_ascii(texts)
    if pc.all(plain).as_py():
        return _normalised_ascii(texts)
    other = pc.invert(plain)
    found = pc.replace_with_mask(texts, other, _normalised_unicode(texts.filter(other)))
    if pc.any(plain).as_py():
        found = pc.replace_with_mask(found, plain, _normalised_ascii(texts.filter(plain)))
    return found if isinstance(found, pa.Array) else found.combine_chunks()


def _normalised_unicode(texts: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    # pyarrow 25's utf8_normalize leaves NFC and NFKC decomposed, and is slower than this
    composed = [unicodedata.normalize("NFKC", text).lower() for text in texts.to_pylist()]
    lower = pc.utf8_trim_whitespace(pa.array(composed, pa.string()))
    spaced = pc.replace_substring_regex(lower, NO_SPACES, r" \1 ")
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(spaced, r"[^\p{L}\p{M}\p{N}]+", " "))
    return pc.if_else(pc.equal(words, ""), lower, words)


def _normalised_ascii(texts: "pa.Array") -> "pa.Array":
    """The same for ASCII, byte by byte: a pattern would take twenty times as long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    data, ends = contents(texts)
    buffers = [None, pa.py_buffer(ends.astype("int32")), pa.py_buffer(_letters()[data])]
    spaced = pc.ascii_trim_whitespace(pa.Array.from_buffers(pa.string(), len(texts), buffers))
    words = pc.binary_join(pc.ascii_split_whitespace(spaced), " ")
    blank = pc.equal(words, "")
    if not pc.any(blank).as_py():
        return words
    return pc.if_else(blank, pc.utf8_trim_whitespace(pc.ascii_lower(texts)), words)


@functools.cache
def _letters() -> "np.ndarray[Any, Any]":
    """Of each byte: digits and lower-case letters as they are, capitals as lower case, others as a space."""
    import numpy as np

    signs = [chr(code).lower() if code < 128 and chr(code).isalnum() else " " for code in range(256)]
    return np.array([ord(sign) for sign in signs], dtype=np.uint8)


def matrix(part: "pa.Table") -> "Iterator[np.ndarray[Any, Any]]":
    """The signatures of a part's rows, (n, 64) for each chunk."""
    import numpy as np

    for chunk in part["signature"].chunks:
        yield np.frombuffer(contents(chunk)[0], dtype=np.uint16).reshape(-1, PERMUTATIONS)


def signatures(normal: "pa.Array") -> "np.ndarray[Any, Any]":
    """MinHash signatures over word 3-shingles, (texts, 64), the lower 16 bits of each minimum.

    Sixteen bits are b-bit MinHash (Li and König 2010): two minima that differ agree by chance once in 65,536.

    Args:
        normal: from `normalised`; a text of fewer than three words is one shingle.
    """
    import numpy as np

    parts = mapped(_signatures, slices(normal))
    return np.concatenate([np.zeros((0, PERMUTATIONS), dtype=np.uint16), *parts])


def _signatures(normal: "pa.Array") -> "np.ndarray[Any, Any]":
    import numpy as np

    hashed, counts = _shingle_hashes(normal)
    first = np.cumsum(counts) - counts
    factors, terms = _permutations()
    found = np.empty((len(counts), PERMUTATIONS), dtype=np.uint16)
    order = np.argsort(counts, kind="stable")  # texts of about the same length together: little is filled up
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        places = np.minimum(np.arange(counts[rows[-1]])[:, None], counts[rows] - 1)  # filled up with the last shingle
        shingled = hashed[first[rows] + places]
        permuted, least = np.empty_like(shingled), np.empty((PERMUTATIONS, len(rows)), dtype=np.uint32)
        for number in range(PERMUTATIONS):
            np.multiply(shingled, factors[number], out=permuted)
            np.add(permuted, terms[number], out=permuted)
            np.minimum.reduce(permuted, axis=0, out=least[number])
        found[rows] = least.astype(np.uint16).T
    return found


@functools.cache
def _permutations() -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Factors and terms of linear permutations modulo 2**32, drawn by splitmix64: for ever the same."""
    import numpy as np

    drawn = mixed(np.uint64(BASE) * np.arange(SEED, SEED + 2 * PERMUTATIONS, dtype=np.uint64))
    high = (drawn >> np.uint64(32)).astype(np.uint32)
    return high[:PERMUTATIONS] | np.uint32(1), high[PERMUTATIONS:]


def _shingle_hashes(normal: "pa.Array") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """32 bits of each text's shingles, and how many each text has; a shingle is a part of the text: single spaces."""
    import numpy as np

    data, ends = contents(normal)
    spaces = np.flatnonzero(data == SPACE)
    before = np.searchsorted(spaces, ends)
    words = np.diff(before) + 1
    first = np.cumsum(words) - words
    word_ends = np.insert(spaces, before[1:], ends[1:])
    word_starts = np.concatenate([[0], word_ends[:-1] + 1])[: len(word_ends)]
    word_starts[first] = ends[:-1]
    counts = np.maximum(words - 2, 1)
    row = np.repeat(np.arange(len(words)), counts)
    opening = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + first[row]
    closing = np.minimum(opening + 2, (first + words - 1)[row])
    hashed = part_hashes(data, word_starts[opening], word_ends[closing])
    return (hashed >> np.uint64(32)).astype(np.uint32), counts


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
