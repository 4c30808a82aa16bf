"""Components: what links a batch's rows with each other and with the corpus; most of it is read, little of it held."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
NAMES = ("train", "excluded", "validation", "test")  # in the order in which one wins over another within a row key
TRAIN, EXCLUDED, VALIDATION, TEST = range(4)


@dataclass(frozen=True)
class Groups:
    """The components that a batch's rows stand in.

    Args:
        member: each row's component, numbered within this batch.
        ids: each component's id: the smallest of the known ones that it joins, else of its rows' normalised inputs.
        joins: known components that became one, by component number.
        held: splits that its known rows stand in, (components, 4).
    """

    member: "np.ndarray[Any, Any]"
    ids: "np.ndarray[Any, Any]"
    joins: dict[int, list[int]]
    held: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class SharedValues:
    """Strings that stand on more than one row, as numbers.

    Args:
        places: rows, the corpus' counted after the batch's; values: equal for equal strings.
    """

    places: "np.ndarray[Any, Any]"
    values: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class NearCandidates:
    """Normalised inputs that may be near duplicates of others: a fresh one in each pair.

    Args:
        fresh, known: their digests; signatures: of the fresh ones, then of the known; texts: in the same order.
    """

    fresh: "np.ndarray[Any, Any]"
    known: "np.ndarray[Any, Any]"
    signatures: "np.ndarray[Any, Any]"
    texts: "pa.Array"


@dataclass(frozen=True)
class Links:
    """Everything that can link rows, whichever of them are left out in the end.

    Args:
        normal: digests of normalised inputs, the batch's rows first, then the corpus': of a small batch those nearby.
        size: rows of the batch.
        ties: by group and by key.
        near: None where near duplicates are not looked for.
        split, component: of these rows of the corpus, as codes and as today's ids.
    """

    normal: "np.ndarray[Any, Any]"
    size: int
    ties: "tuple[SharedValues, ...]"
    near: NearCandidates | None
    split: "np.ndarray[Any, Any]"
    component: "np.ndarray[Any, Any]"


def collect_links(
    rows: RowReader, corpus_rows: RowReader, input_role: str, look_up: LookUp, threshold: float | None, scratch: Path
) -> "tuple[Links, SharedValues]":
    """All links, and the rows tied by key."""
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
        (split, component) = _read_components(corpus_rows(["split", "component", "joins"]))
        linked_count = len(known_digests)
    row_digests = np.concatenate([batch_digests, known_digests]) if len(known_digests) else batch_digests
    keys, groups = (_find_shared_values(rows, corpus_rows, name, size) for name in ("row_key", "group"))
    candidates = None
    if threshold is not None:
        is_linking = split[:linked_count] != EXCLUDED
        candidates = _find_candidates(
            rows,
            corpus_rows,
            input_role,
            look_up,
            threshold,
            scratch,
            (batch_digests, known_digests[:linked_count], is_linking),
        )
    return Links(row_digests, size, (groups, keys), candidates, split, component), keys


def find_components(all_links: Links, is_staying: "np.ndarray[Any, Any]", threshold: float | None) -> Groups:
    """The components of the rows that stay; each other row stands alone, and links nothing.

    Args:
        staying: which rows of the batch.
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
    for shared in all_links.ties:
        is_used = is_linking[shared.places]
        pairs.append(link_equal_values(shared.places[is_used], shared.values[is_used]))
    if all_links.near is not None and threshold is not None:
        pairs.append(_find_near_pairs(all_links.near, all_links.normal, is_linking, size, threshold))
    all_pairs = np.concatenate(pairs)
    all_pairs[all_pairs >= size] = nodes[all_pairs[all_pairs >= size] - size]
    member = label_components(size + len(known_ids), all_pairs)
    component_count = member.max(initial=-1) + 1
    held = np.zeros((component_count, len(NAMES)), dtype=bool)
    held[member[size + known_indices], all_links.split[is_known_linking]] = True
    ids, joins = _identify_components(member[:size], member[size:], all_links.normal[:size], known_ids, component_count)
    return Groups(member[:size], ids, joins, held)


def _find_near_pairs(
    candidates: NearCandidates, row_digests: Any, is_linking: Any, size: int, threshold: float
) -> "np.ndarray[Any, Any]":
    """Pairs of rows that are near duplicates; of equal inputs the first that may link."""
    import numpy as np
    import pyarrow as pa

    fresh, first_fresh = _find_first_rows(candidates.fresh, row_digests, np.flatnonzero(is_linking[:size]))
    known, first_known = _find_first_rows(candidates.known, row_digests, size + np.flatnonzero(is_linking[size:]))
    indices = np.concatenate([fresh, len(candidates.fresh) + known])
    texts = candidates.texts.take(pa.array(indices))
    signatures = candidates.signatures[indices]

    def texts_with_known(known_indices: Any) -> Any:
        return texts.take(pa.array(np.concatenate([np.arange(len(fresh)), len(fresh) + known_indices])))

    pairs = find_near_duplicates(signatures[: len(fresh)], signatures[len(fresh) :], threshold, texts_with_known)
    row_pairs: np.ndarray[Any, Any] = np.concatenate([first_fresh, first_known])[pairs]
    return row_pairs


def _find_first_rows(digests: Any, row_digests: Any, rows: Any) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Which of the wanted digests stand in the given places, and where each stands first."""
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
    digest_arrays: Any,
) -> NearCandidates:
    import numpy as np
    import pyarrow as pa

    row_digests, known_digests, is_linking = digest_arrays
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


def _find_first_of_each(values: Any, is_considered: Any) -> "np.ndarray[Any, Any]":
    """The first place of each value, in order.

    Args:
        values: digests.
    """
    import numpy as np

    indices = np.flatnonzero(is_considered)
    values = values[indices]
    is_first = np.ones(len(indices), dtype=bool)
    repeats = np.sort(find_repeated(values.view(np.uint64)))
    is_first[link_equal_values(repeats, values[repeats])[:, 1]] = False
    return np.asarray(indices[is_first])


def _read_signatures(rows: RowReader, row_indices: Any) -> "Iterator[np.ndarray[Any, Any]]":
    for chunk in select_rows(rows, ["signature"], row_indices):
        yield from iterate_signatures(chunk)


def _read_components(corpus_chunks: "Iterable[pa.Table]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """The split and today's component of each row of the corpus.

    Args:
        known: its rows in parts, with `split`, `component` and `joins`.
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


def encode_splits(names: Any) -> Any:
    """Splits as codes; null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(names, value_set=pa.array(NAMES))


def _find_shared_values(rows: RowReader, corpus_rows: RowReader, name: str, size: int) -> SharedValues:
    """Rows of the batch whose string stands elsewhere too, in the batch or the corpus, and these others."""
    import numpy as np
    import pyarrow as pa

    row_indices = find_repeated_strings([rows, corpus_rows], name)
    strings = [
        select_strings(rows, name, row_indices[row_indices < size]),
        select_strings(corpus_rows, name, row_indices[row_indices >= size] - size),
    ]
    return SharedValues(row_indices, np.asarray(pa.concat_arrays(strings).dictionary_encode().indices, dtype=np.int64))


def _identify_components(
    member: Any, known_member: Any, row_digests: Any, known_ids: Any, size: int
) -> tuple[Any, dict[int, list[int]]]:
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
