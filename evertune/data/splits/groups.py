"""Find the components of a batch: rows that are linked with each other and with the corpus, in little memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.data.columns.chunks import RowReader, find_repeated_strings, read_numbers, select_rows, select_strings
from evertune.data.columns.components import (
    BLOCK,
    find_repeated,
    label_components,
    link_equal_values,
    mask_members,
    resolve_components,
)
from evertune.data.splits.minhash import PERMUTATIONS, iterate_signatures, make_comparable
from evertune.data.splits.near_duplicates import find_near_duplicates, find_shared_buckets
from evertune.data.splits.neighbours import SMALL, find_nearby_rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KNOWN = ("row_version", "row_key", "split", "component", "joins", "group", "normal_digest", "signature")
LookUp = Callable[["pa.Array"], "pa.Array"]
NAMES = ("train", "excluded", "validation", "test")  # within a row key a later one wins over an earlier one
TRAIN, EXCLUDED, VALIDATION, TEST = range(4)


@dataclass(frozen=True)
class Groups:
    """The components of a batch's rows.

    Args:
        member: each row's component, numbered within this batch.
        ids: of the components: the smallest id of the known ones that it joins, else the smallest digest of its rows.
        joins: ids of known components that became part of another one, by component number.
        held_splits: whether a component has known rows in each split, (components, 4).
    """

    member: "np.ndarray"
    ids: "np.ndarray"
    joins: dict[int, list[int]]
    held_splits: "np.ndarray"


@dataclass(frozen=True)
class SharedValues:
    """Strings that more than one row has, as numbers.

    Args:
        rows: indices of the rows, those of the corpus counted after the batch's.
        values: one for each of these rows, equal for equal strings.
    """

    rows: "np.ndarray"
    values: "np.ndarray"


@dataclass(frozen=True)
class NearCandidates:
    """Normalised inputs that may be near duplicates of each other, with a fresh one in each pair.

    Args:
        fresh: digests of the fresh ones.
        known: digests of the known ones.
        signatures: of the fresh ones, then of the known ones.
        texts: in the same order.
    """

    fresh: "np.ndarray"
    known: "np.ndarray"
    signatures: "np.ndarray"
    texts: "pa.Array"


@dataclass(frozen=True)
class Links:
    """Everything that can link rows, before any of them are excluded.

    Args:
        normal: digests of normalised inputs: the batch's rows, then the corpus' (for a small batch only nearby ones).
        size: number of rows of the batch.
        shared: groups and keys that rows share.
        near: candidates for near duplicates; None if these are not searched.
        split: codes of the corpus rows' splits.
        component: current ids of the corpus rows' components.
    """

    normal: "np.ndarray"
    size: int
    shared: "tuple[SharedValues, ...]"
    near: NearCandidates | None
    split: "np.ndarray"
    component: "np.ndarray"


def collect_links(
    rows: RowReader, corpus_rows: RowReader, input_role: str, look_up: LookUp, threshold: float | None, scratch: Path
) -> "tuple[Links, SharedValues]":
    """Return all links of a batch, and the rows that share a key.

    Args:
        rows: reads the batch's rows, with signatures.
        corpus_rows: reads the `KNOWN` columns of the corpus.
        input_role: the role of the model's input.
        look_up: returns the inputs of known row versions, in their order.
        threshold: least similarity of near duplicates; None to not search them.
        scratch: folder for temporary files.
    """
    import numpy as np

    batch_digests = read_numbers(rows, "normal_digest")
    size = len(batch_digests)
    if size <= SMALL:
        neighbour_rows = find_nearby_rows(rows, corpus_rows, KNOWN, _read_components, threshold)
        corpus_rows = neighbour_rows.linked
        known_digests = neighbour_rows.normal
        split = neighbour_rows.split
        component = neighbour_rows.component
        linked_count = neighbour_rows.count
    else:
        known_digests = read_numbers(corpus_rows, "normal_digest")
        split, component = _read_components(corpus_rows(["split", "component", "joins"]))
        linked_count = len(known_digests)
    row_digests = np.concatenate([batch_digests, known_digests]) if len(known_digests) else batch_digests
    keys = _find_shared_values(rows, corpus_rows, "row_key", size)
    groups = _find_shared_values(rows, corpus_rows, "group", size)
    candidates = None
    if threshold is not None:
        candidates = _find_candidates(
            rows,
            corpus_rows,
            input_role,
            look_up,
            threshold,
            scratch,
            batch_digests,
            known_digests[:linked_count],
            split[:linked_count] != EXCLUDED,
        )
    return Links(row_digests, size, (groups, keys), candidates, split, component), keys


def find_components(all_links: Links, is_staying: "np.ndarray", threshold: float | None) -> Groups:
    """Return the components of the rows that stay; every other row is alone and links nothing.

    Args:
        all_links: of the batch.
        is_staying: mask of the batch's rows.
        threshold: least similarity of near duplicates.
    """
    import numpy as np

    size = all_links.size
    is_known_linking = all_links.split != EXCLUDED
    is_linking = np.concatenate([is_staying, is_known_linking])
    known_ids, known_indices = np.unique(all_links.component[is_known_linking], return_inverse=True)
    nodes = np.zeros(len(is_known_linking), dtype=np.int64)
    nodes[is_known_linking] = size + known_indices
    repeated_rows = np.sort(
        np.flatnonzero(is_linking)[find_repeated(all_links.normal[is_linking].view(np.uint64), can_overwrite=True)]
    )
    pairs = [link_equal_values(repeated_rows, all_links.normal[repeated_rows])]
    for shared in all_links.shared:
        is_used = is_linking[shared.rows]
        pairs.append(link_equal_values(shared.rows[is_used], shared.values[is_used]))
    if all_links.near is not None and threshold is not None:
        pairs.append(_find_near_pairs(all_links.near, all_links.normal, is_linking, size, threshold))
    all_pairs = np.concatenate(pairs)
    all_pairs[all_pairs >= size] = nodes[all_pairs[all_pairs >= size] - size]
    member = label_components(size + len(known_ids), all_pairs)
    component_count = member.max(initial=-1) + 1
    held_splits = np.zeros((component_count, len(NAMES)), dtype=bool)
    held_splits[member[size + known_indices], all_links.split[is_known_linking]] = True
    ids, joins = _identify_components(member[:size], member[size:], all_links.normal[:size], known_ids, component_count)
    return Groups(member[:size], ids, joins, held_splits)


def _find_near_pairs(
    candidates: NearCandidates, row_digests: "np.ndarray", is_linking: "np.ndarray", size: int, threshold: float
) -> "np.ndarray":
    """Return pairs of rows that are near duplicates, (k, 2); of rows with equal inputs the first that links."""
    import numpy as np
    import pyarrow as pa

    fresh, first_fresh = _find_first_rows(candidates.fresh, row_digests, np.flatnonzero(is_linking[:size]))
    known, first_known = _find_first_rows(candidates.known, row_digests, size + np.flatnonzero(is_linking[size:]))
    indices = np.concatenate([fresh, len(candidates.fresh) + known])
    texts = candidates.texts.take(pa.array(indices))
    signatures = candidates.signatures[indices]

    def read_texts(known_indices: "np.ndarray") -> "pa.Array":
        return texts.take(pa.array(np.concatenate([np.arange(len(fresh)), len(fresh) + known_indices])))

    pairs = find_near_duplicates(signatures[: len(fresh)], signatures[len(fresh) :], threshold, read_texts)
    row_pairs: np.ndarray = np.concatenate([first_fresh, first_known])[pairs]
    return row_pairs


def _find_first_rows(
    digests: "np.ndarray", row_digests: "np.ndarray", rows: "np.ndarray"
) -> "tuple[np.ndarray, np.ndarray]":
    """Return the indices of the digests that some of the rows have, and the first such row of each.

    Args:
        digests: those to find.
        row_digests: of all rows.
        rows: indices of the rows to search.
    """
    import numpy as np

    order = np.argsort(digests)
    sorted_digests = digests[order]
    matches = [np.zeros(0, dtype=np.int64)]
    match_rows = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(rows) if len(digests) else 0, BLOCK):
        block = rows[start : start + BLOCK]
        positions = np.minimum(np.searchsorted(sorted_digests, row_digests[block]), len(digests) - 1)
        is_match = sorted_digests[positions] == row_digests[block]
        matches.append(order[positions[is_match]])
        match_rows.append(block[is_match])
    matched, first = np.unique(np.concatenate(matches), return_index=True)
    return matched, np.concatenate(match_rows)[first]


def _find_candidates(
    rows: RowReader,
    corpus_rows: RowReader,
    input_role: str,
    look_up: LookUp,
    threshold: float,
    scratch: Path,
    row_digests: "np.ndarray",
    known_digests: "np.ndarray",
    is_linking: "np.ndarray",
) -> NearCandidates:
    """Return the inputs that share an LSH bucket with a fresh one.

    Args:
        row_digests: of the batch's rows.
        known_digests: of the corpus' rows.
        is_linking: mask of the corpus' rows that may link others.
    """
    import numpy as np
    import pyarrow as pa

    first_rows = _find_first_of_each(row_digests, np.ones(len(row_digests), dtype=bool))
    known_rows = _find_first_of_each(known_digests, is_linking & ~mask_members(known_digests, row_digests))
    fresh_hits, known_hits = find_shared_buckets(
        _read_signatures(rows, first_rows), _read_signatures(corpus_rows, known_rows), threshold, scratch
    )
    fresh_rows = first_rows[fresh_hits]
    old_rows = known_rows[known_hits]
    signatures = [
        np.zeros((0, PERMUTATIONS), dtype=np.uint16),
        *_read_signatures(rows, fresh_rows),
        *_read_signatures(corpus_rows, old_rows),
    ]
    texts = [make_comparable(chunk[input_role], input_role) for chunk in select_rows(rows, [input_role], fresh_rows)]
    versions = select_strings(corpus_rows, "row_version", old_rows)
    if len(versions):
        texts.append(make_comparable(look_up(versions), input_role))
    return NearCandidates(
        row_digests[fresh_rows],
        known_digests[old_rows],
        np.concatenate(signatures),
        pa.concat_arrays([pa.array([], pa.string()), *texts]),
    )


def _find_first_of_each(values: "np.ndarray", is_considered: "np.ndarray") -> "np.ndarray":
    """Return the first index of each value, in order.

    Args:
        values: digests.
        is_considered: mask of the values to use.
    """
    import numpy as np

    indices = np.flatnonzero(is_considered)
    values = values[indices]
    is_first = np.ones(len(indices), dtype=bool)
    repeats = np.sort(find_repeated(values.view(np.uint64)))
    is_first[link_equal_values(repeats, values[repeats])[:, 1]] = False
    return np.asarray(indices[is_first])


def _read_signatures(rows: RowReader, row_indices: "np.ndarray") -> "Iterator[np.ndarray]":
    for chunk in select_rows(rows, ["signature"], row_indices):
        yield from iterate_signatures(chunk)


def _read_components(corpus_chunks: "Iterable[pa.Table]") -> "tuple[np.ndarray, np.ndarray]":
    """Return the code of the split and the current component of each row of the corpus.

    Args:
        corpus_chunks: its rows, with `split`, `component` and `joins`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks = [chunk.set_column(0, "split", encode_splits(chunk["split"])) for chunk in corpus_chunks]
    if not chunks:
        return np.zeros(0, dtype=np.int8), np.zeros(0, dtype=np.int64)
    table = pa.concat_tables(chunks)
    split = table["split"].to_numpy().astype(np.int8)
    component = table["component"].to_numpy().copy()
    component[split != EXCLUDED] = resolve_components(table.filter(pc.not_equal(table["split"], EXCLUDED)))
    return split, component


def encode_splits(names: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Return the code of each split name; null for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(names, value_set=pa.array(NAMES))


def _find_shared_values(rows: RowReader, corpus_rows: RowReader, name: str, size: int) -> SharedValues:
    """Return rows of the batch whose string another row of the batch or the corpus has too, and these others."""
    import numpy as np
    import pyarrow as pa

    row_indices = find_repeated_strings([rows, corpus_rows], name)
    strings = [
        select_strings(rows, name, row_indices[row_indices < size]),
        select_strings(corpus_rows, name, row_indices[row_indices >= size] - size),
    ]
    return SharedValues(row_indices, np.asarray(pa.concat_arrays(strings).dictionary_encode().indices, dtype=np.int64))


def _identify_components(
    member: "np.ndarray", known_member: "np.ndarray", row_digests: "np.ndarray", known_ids: "np.ndarray", size: int
) -> "tuple[np.ndarray, dict[int, list[int]]]":
    """Return `ids` and `joins` of `size` components, see `Groups`.

    Args:
        member: component numbers of the batch's rows.
        known_member: component numbers of the known components.
        row_digests: of the batch's rows.
        known_ids: of the known components.
    """
    import numpy as np

    largest = np.iinfo(np.int64).max
    ids = np.full(size, largest)
    np.minimum.at(ids, member, row_digests)
    if not len(known_member):
        return ids, {}
    lowest_known = np.full(size, largest)
    np.minimum.at(lowest_known, known_member, known_ids)
    is_in_batch = np.zeros(size, dtype=bool)
    is_in_batch[member] = True
    is_touched = is_in_batch[known_member]
    joins: dict[int, list[int]] = {}
    for number, known_id in zip(known_member[is_touched].tolist(), known_ids[is_touched].tolist(), strict=True):
        if known_id != lowest_known[number]:
            joins.setdefault(number, []).append(known_id)
    ids[known_member] = lowest_known[known_member]
    return ids, joins
