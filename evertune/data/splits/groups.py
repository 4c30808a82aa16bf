"""Components: what links a batch's rows with each other and with the corpus; most of it is read, little of it held."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.data.columns.chunks import Rows, chosen, column, numbers, standing_again
from evertune.data.columns.components import BLOCK, canonical, chained, connected, repeated, within
from evertune.data.splits.minhash import PERMUTATIONS, comparable, matrix
from evertune.data.splits.near_duplicates import links, sharing
from evertune.data.splits.neighbours import SMALL, nearby

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
class Tied:
    """Strings that stand on more than one row, as numbers.

    Args:
        places: rows, the corpus' counted after the batch's; values: equal for equal strings.
    """

    places: "np.ndarray[Any, Any]"
    values: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class Near:
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
    ties: "tuple[Tied, ...]"
    near: Near | None
    split: "np.ndarray[Any, Any]"
    component: "np.ndarray[Any, Any]"


def gathered(
    rows: Rows, known: Rows, inputs: str, look_up: LookUp, threshold: float | None, scratch: Path
) -> "tuple[Links, Tied]":
    """All links, and the rows tied by key."""
    import numpy as np

    own = numbers(rows, "normal_digest")
    size = len(own)
    if size <= SMALL:
        found = nearby(rows, known, KNOWN, _stands, threshold)
        known, there, split, component = found.linked, found.normal, found.split, found.component
        count = found.count
    else:
        there, (split, component) = numbers(known, "normal_digest"), _stands(known(["split", "component", "joins"]))
        count = len(there)
    normal = np.concatenate([own, there]) if len(there) else own
    keys, groups = (_tied(rows, known, name, size) for name in ("row_key", "group"))
    near = None
    if threshold is not None:
        around = split[:count] != EXCLUDED
        near = _near(rows, known, inputs, look_up, threshold, scratch, (own, there[:count], around))
    return Links(normal, size, (groups, keys), near, split, component), keys


def grouped(found: Links, staying: "np.ndarray[Any, Any]", threshold: float | None) -> Groups:
    """The components of the rows that stay; each other row stands alone, and links nothing.

    Args:
        staying: which rows of the batch.
    """
    import numpy as np

    size, around = found.size, found.split != EXCLUDED
    linking = np.concatenate([staying, around])
    known_ids, place = np.unique(found.component[around], return_inverse=True)
    node = np.zeros(len(around), dtype=np.int64)
    node[around] = size + place
    again = np.sort(np.flatnonzero(linking)[repeated(found.normal[linking].view(np.uint64), spare=True)])
    pairs = [chained(again, found.normal[again])]
    for tied in found.ties:
        some = linking[tied.places]
        pairs.append(chained(tied.places[some], tied.values[some]))
    if found.near is not None and threshold is not None:
        pairs.append(_linked(found.near, found.normal, linking, size, threshold))
    linked = np.concatenate(pairs)
    linked[linked >= size] = node[linked[linked >= size] - size]
    member = connected(size + len(known_ids), linked)
    count = member.max(initial=-1) + 1
    held = np.zeros((count, len(NAMES)), dtype=bool)
    held[member[size + place], found.split[around]] = True
    ids, joins = _identities(member[:size], member[size:], found.normal[:size], known_ids, count)
    return Groups(member[:size], ids, joins, held)


def _linked(near: Near, normal: Any, linking: Any, size: int, threshold: float) -> "np.ndarray[Any, Any]":
    """Pairs of rows that are near duplicates; of equal inputs the first that may link."""
    import numpy as np
    import pyarrow as pa

    fresh, first_fresh = _first_of(near.fresh, normal, np.flatnonzero(linking[:size]))
    known, first_known = _first_of(near.known, normal, size + np.flatnonzero(linking[size:]))
    at = np.concatenate([fresh, len(near.fresh) + known])
    texts, found = near.texts.take(pa.array(at)), near.signatures[at]

    def with_known(places: Any) -> Any:
        return texts.take(pa.array(np.concatenate([np.arange(len(fresh)), len(fresh) + places])))

    pairs = links(found[: len(fresh)], found[len(fresh) :], threshold, with_known)
    of_rows: np.ndarray[Any, Any] = np.concatenate([first_fresh, first_known])[pairs]
    return of_rows


def _first_of(wanted: Any, normal: Any, places: Any) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Which of the wanted digests stand in the given places, and where each stands first."""
    import numpy as np

    order = np.argsort(wanted)
    ordered, which, where = wanted[order], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(places) if len(wanted) else 0, BLOCK):
        some = places[start : start + BLOCK]
        at = np.minimum(np.searchsorted(ordered, normal[some]), len(wanted) - 1)
        hit = ordered[at] == normal[some]
        which.append(order[at[hit]])
        where.append(some[hit])
    found, first = np.unique(np.concatenate(which), return_index=True)
    return found, np.concatenate(where)[first]


def _near(rows: Rows, known: Rows, inputs: str, look_up: LookUp, threshold: float, scratch: Path, normals: Any) -> Near:
    import numpy as np
    import pyarrow as pa

    normal, there, around = normals
    first = _firsts(normal, np.ones(len(normal), dtype=bool))
    others = _firsts(there, around & ~within(there, normal))
    some, more = sharing(_signatures(rows, first), _signatures(known, others), threshold, scratch)
    fresh, old = first[some], others[more]
    found = [np.zeros((0, PERMUTATIONS), dtype=np.uint16), *_signatures(rows, fresh), *_signatures(known, old)]
    texts = [comparable(part[inputs], inputs) for part in chosen(rows, [inputs], fresh)]
    versions = column(known, "row_version", old)
    if len(versions):
        texts.append(comparable(look_up(versions), inputs))
    return Near(normal[fresh], there[old], np.concatenate(found), pa.concat_arrays([pa.array([], pa.string()), *texts]))


def _firsts(values: Any, considered: Any) -> "np.ndarray[Any, Any]":
    """The first place of each value, in order.

    Args:
        values: digests.
    """
    import numpy as np

    places = np.flatnonzero(considered)
    values, first = values[places], np.ones(len(places), dtype=bool)
    again = np.sort(repeated(values.view(np.uint64)))
    first[chained(again, values[again])[:, 1]] = False
    return np.asarray(places[first])


def _signatures(rows: Rows, places: Any) -> "Iterator[np.ndarray[Any, Any]]":
    for part in chosen(rows, ["signature"], places):
        yield from matrix(part)


def _stands(known: "Iterable[pa.Table]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """The split and today's component of each row of the corpus.

    Args:
        known: its rows in parts, with `split`, `component` and `joins`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [part.set_column(0, "split", codes(part["split"])) for part in known]
    if not parts:
        return np.zeros(0, dtype=np.int8), np.zeros(0, dtype=np.int64)
    whole = pa.concat_tables(parts)
    split = whole["split"].to_numpy().astype(np.int8)
    component = whole["component"].to_numpy().copy()
    component[split != EXCLUDED] = canonical(whole.filter(pc.not_equal(whole["split"], EXCLUDED)))
    return split, component


def codes(names: Any) -> Any:
    """Splits as codes; null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.index_in(names, value_set=pa.array(NAMES))


def _tied(rows: Rows, known: Rows, name: str, size: int) -> Tied:
    """Rows of the batch whose string stands elsewhere too, in the batch or the corpus, and these others."""
    import numpy as np
    import pyarrow as pa

    some = standing_again([rows, known], name)
    strings = [column(rows, name, some[some < size]), column(known, name, some[some >= size] - size)]
    return Tied(some, np.asarray(pa.concat_arrays(strings).dictionary_encode().indices, dtype=np.int64))


def _identities(member: Any, around: Any, normal: Any, known_ids: Any, size: int) -> tuple[Any, dict[int, list[int]]]:
    import numpy as np

    largest = np.iinfo(np.int64).max
    ids = np.full(size, largest)
    np.minimum.at(ids, member, normal)
    if not len(around):
        return ids, {}
    known = np.full(size, largest)
    np.minimum.at(known, around, known_ids)
    met = np.zeros(size, dtype=bool)
    met[member] = True
    touched = met[around]
    joins: dict[int, list[int]] = {}
    for number, one in zip(around[touched].tolist(), known_ids[touched].tolist(), strict=True):
        if one != known[number]:
            joins.setdefault(number, []).append(one)
    ids[around] = known[around]
    return ids, joins
