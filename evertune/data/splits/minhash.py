"""Prepare texts for comparison: normalised texts, word shingles and MinHash signatures (Broder 1997)."""

import functools
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from evertune.data.columns.strings import BASE, get_text_bytes, hash_parts, mix_bits, slice_texts
from evertune.data.splits.image_hash import hash_pictures
from evertune.runtime.threads import map_in_threads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PICTURES = "image"  # the role under which pictures are inputs
PERMUTATIONS = 64
SEED = 17
BLOCK = 8192  # texts whose shingles are permuted at once: few numpy calls, and the data stays in the cache
SPACE = ord(" ")
NO_SPACES = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


def make_comparable(inputs: "pa.Array | pa.ChunkedArray", role: str) -> "pa.Array":
    """Return the normalised texts by which inputs of a role are compared; pictures become words first."""
    return normalise_texts(hash_pictures(inputs) if role == PICTURES else inputs)


def normalise_texts(inputs: "pa.Array | pa.ChunkedArray") -> "pa.Array":
    """Return texts in NFKC and lower case, without punctuation and with single spaces.

    Scripts that are written without spaces get one around every character. A text of only punctuation keeps it.

    Args:
        inputs: strings, or lists of strings that count as words.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.binary_join(inputs, " ") if pa.types.is_list(inputs.type) else inputs
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    parts = [part for chunk in chunks for part in slice_texts(pc.fill_null(chunk, ""))]
    return pa.concat_arrays([pa.array([], pa.string()), *map_in_threads(_normalise_chunk, parts)])


def _normalise_chunk(texts: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    is_ascii = pc.string_is_ascii(texts)
    if pc.all(is_ascii).as_py():
        return _normalise_ascii(texts)
    is_other = pc.invert(is_ascii)
    result = pc.replace_with_mask(texts, is_other, _normalise_unicode(texts.filter(is_other)))
    if pc.any(is_ascii).as_py():
        result = pc.replace_with_mask(result, is_ascii, _normalise_ascii(texts.filter(is_ascii)))
    return result if isinstance(result, pa.Array) else result.combine_chunks()


def _normalise_unicode(texts: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    # pyarrow 25's utf8_normalize leaves NFC and NFKC decomposed, and is slower than this
    composed = [unicodedata.normalize("NFKC", text).lower() for text in texts.to_pylist()]
    lower = pc.utf8_trim_whitespace(pa.array(composed, pa.string()))
    spaced = pc.replace_substring_regex(lower, NO_SPACES, r" \1 ")
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(spaced, r"[^\p{L}\p{M}\p{N}]+", " "))
    return pc.if_else(pc.equal(words, ""), lower, words)


def _normalise_ascii(texts: "pa.Array") -> "pa.Array":
    """Normalise ASCII texts byte by byte: a pattern would take twenty times as long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    data, offsets = get_text_bytes(texts)
    buffers = [None, pa.py_buffer(offsets.astype("int32")), pa.py_buffer(_build_letter_table()[data])]
    spaced = pc.ascii_trim_whitespace(pa.Array.from_buffers(pa.string(), len(texts), buffers))
    words = pc.binary_join(pc.ascii_split_whitespace(spaced), " ")
    is_blank = pc.equal(words, "")
    if not pc.any(is_blank).as_py():
        return words
    return pc.if_else(is_blank, pc.utf8_trim_whitespace(pc.ascii_lower(texts)), words)


@functools.cache
def _build_letter_table() -> "np.ndarray":
    """Return a table that maps capitals to lower case and all bytes but digits and letters to a space."""
    import numpy as np

    characters = [chr(code).lower() if code < 128 and chr(code).isalnum() else " " for code in range(256)]
    return np.array([ord(character) for character in characters], dtype=np.uint8)


def iterate_signatures(table: "pa.Table") -> "Iterator[np.ndarray]":
    """Yield the signatures of a table's rows, (n, 64) for each chunk."""
    import numpy as np

    for chunk in table["signature"].chunks:
        yield np.frombuffer(get_text_bytes(chunk)[0], dtype=np.uint16).reshape(-1, PERMUTATIONS)


def compute_signatures(normal: "pa.Array") -> "np.ndarray":
    """Return MinHash signatures over word 3-shingles, (texts, 64), the lower 16 bits of each minimum.

    This is b-bit MinHash (Li and König 2010) with 16 bits: two minima that differ agree by chance once in 65,536.

    Args:
        normal: from `normalise_texts`; a text of fewer than three words is one shingle.
    """
    import numpy as np

    parts = map_in_threads(_compute_chunk_signatures, slice_texts(normal))
    return np.concatenate([np.zeros((0, PERMUTATIONS), dtype=np.uint16), *parts])


def _compute_chunk_signatures(normal: "pa.Array") -> "np.ndarray":
    import numpy as np

    shingle_hashes, counts = _hash_shingles(normal)
    first = np.cumsum(counts) - counts
    factors, terms = _draw_permutations()
    result = np.empty((len(counts), PERMUTATIONS), dtype=np.uint16)
    order = np.argsort(counts, kind="stable")  # texts of similar length together, to pad little
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        # shorter texts are padded with their last shingle
        shingle_indices = np.minimum(np.arange(counts[rows[-1]])[:, None], counts[rows] - 1)
        block_hashes = shingle_hashes[first[rows] + shingle_indices]
        permuted = np.empty_like(block_hashes)
        minima = np.empty((PERMUTATIONS, len(rows)), dtype=np.uint32)
        for index in range(PERMUTATIONS):
            np.multiply(block_hashes, factors[index], out=permuted)
            np.add(permuted, terms[index], out=permuted)
            np.minimum.reduce(permuted, axis=0, out=minima[index])
        result[rows] = minima.astype(np.uint16).T
    return result


@functools.cache
def _draw_permutations() -> "tuple[np.ndarray, np.ndarray]":
    """Return factors and terms of linear permutations modulo 2**32, drawn by splitmix64: always the same."""
    import numpy as np

    drawn = mix_bits(np.uint64(BASE) * np.arange(SEED, SEED + 2 * PERMUTATIONS, dtype=np.uint64))
    high = (drawn >> np.uint64(32)).astype(np.uint32)
    return high[:PERMUTATIONS] | np.uint32(1), high[PERMUTATIONS:]


def _hash_shingles(normal: "pa.Array") -> "tuple[np.ndarray, np.ndarray]":
    """Return 32-bit hashes of all shingles, and the number of shingles of each text.

    With single spaces between words a shingle is a substring, so no shingle is built.
    """
    import numpy as np

    data, offsets = get_text_bytes(normal)
    spaces = np.flatnonzero(data == SPACE)
    spaces_before = np.searchsorted(spaces, offsets)
    words = np.diff(spaces_before) + 1
    first = np.cumsum(words) - words
    word_ends = np.insert(spaces, spaces_before[1:], offsets[1:])
    word_starts = np.concatenate([[0], word_ends[:-1] + 1])[: len(word_ends)]
    word_starts[first] = offsets[:-1]
    counts = np.maximum(words - 2, 1)
    row = np.repeat(np.arange(len(words)), counts)
    first_words = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + first[row]
    last_words = np.minimum(first_words + 2, (first + words - 1)[row])
    hashes = hash_parts(data, word_starts[first_words], word_ends[last_words])
    return (hashes >> np.uint64(32)).astype(np.uint32), counts


def make_shingles(normal: "pa.Array") -> "pa.ListArray":
    """Return every three consecutive words of each text; a text of fewer words is one shingle."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    word_lists = pc.split_pattern(normal, " ")
    counts = np.asarray(word_lists.value_lengths())
    words = word_lists.flatten()
    starts = np.cumsum(counts) - counts
    is_start = np.arange(len(words)) - np.repeat(starts, counts) <= np.repeat(counts, counts) - 3
    shingle_starts = np.flatnonzero(is_start)
    joined = pc.binary_join_element_wise(
        words.take(shingle_starts), words.take(shingle_starts + 1), words.take(shingle_starts + 2), " "
    )
    sizes = np.maximum(counts - 2, 0)
    short_texts = np.flatnonzero(sizes == 0)
    text_indices = np.concatenate([np.repeat(np.arange(len(normal)), sizes), short_texts])
    all_shingles = pa.concat_arrays([joined, normal.take(short_texts)]).take(np.argsort(text_indices, kind="stable"))
    offsets = np.concatenate([[0], np.cumsum(np.maximum(sizes, 1))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, all_shingles)
