"""A row's split: assigned once from what it is linked with, never from its label; and which test rows leak."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evertune.components import canonical, chained, connected
from evertune.config import Recipe
from evertune.config.data import SplitRules
from evertune.rows import digests
from evertune.splits.near_duplicates import PERMUTATIONS, links, normalised, signatures

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KNOWN = ("row_version", "row_key", "split", "component", "joins", "group", "normal_digest", "minhash")
NAMES = ("train", "excluded", "validation", "test")  # in the order in which one wins over another within a row key
TRAIN, EXCLUDED, VALIDATION, TEST = range(4)
OPEN = -1  # not decided yet
LARGE = 0.2  # a component with more of a batch's rows than this is worth a warning ...
LARGE_FROM = 100  # ... in a batch of at least this many
logger = logging.getLogger(__name__)


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


def lends_validation(recipe: Recipe) -> bool:
    """Whether given train rows lend a share to validation, because no source gives validation rows."""
    return not any(source.split == "validation" for source in recipe.data.sources)


def assign(
    accepted: "pa.Table", known: "pa.Table", rules: SplitRules, inputs: str,
    look_up: "Callable[[pa.Array], pa.Array]", lend: bool = True,
) -> "pa.Table":  # fmt: skip
    """The rows with `split`, `component`, `joins`, `minhash` and `normal_digest`; known rows keep theirs.

    The order of the rows changes nothing.

    Args:
        accepted: rows as the contract gives them.
        known: the `KNOWN` columns of every row version in the corpus, superseded ones too.
        inputs: the role that holds the model's input.
        look_up: gives the inputs of known row versions, in order.
        lend: whether given train rows lend the share `rules.validation` to validation.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    normal = normalised(accepted[inputs])
    rows = _signed(accepted, normal)
    around = known.filter(pc.not_equal(known["split"], "excluded"))
    split = _of_known_keys(rows, known)
    linking = split != EXCLUDED
    groups = _groups(rows.filter(linking), around, normal.filter(pa.array(linking)), look_up, rules.near_duplicate)
    split[linking] = _splits(rows.filter(linking), split[linking], groups, rules, lend)
    _warn_of_large(groups)
    staying = split != EXCLUDED
    if (staying != linking).any():  # what is left out links nothing: the others hang together without it
        groups = _groups(rows.filter(staying), around, normal.filter(pa.array(staying)), look_up, rules.near_duplicate)
    return _assigned(rows, split, groups)


def leaked(rows: "pa.Table") -> "pa.Array":
    """Versions of the test rows whose component also holds a train row.

    Args:
        rows: `row_version`, `split` and `component` of a snapshot's current rows.
    """
    import pyarrow.compute as pc

    train = rows.filter(pc.equal(rows["split"], "train"))["component"]
    test = rows.filter(pc.equal(rows["split"], "test"))
    return test.filter(pc.is_in(test["component"], value_set=pc.unique(train)))["row_version"].combine_chunks()


def apart(rows: "pa.Table", rules: SplitRules) -> "pa.Table":
    """The rows; with `leak: exclude` the train rows whose component holds a test row are `excluded`, and counted.

    A test row that comes later finds its train rows in the corpus, with the split that they keep there.

    Args:
        rows: a snapshot's current rows, with `split` and `component`.
    """
    import pyarrow.compute as pc

    if rules.leak == "report":
        return rows
    train, test = (pc.equal(rows["split"], name) for name in ("train", "test"))
    near = pc.and_(train, pc.is_in(rows["component"], value_set=pc.unique(rows["component"].filter(test))))
    if count := pc.sum(near).as_py():
        logger.info("%d train rows stand in or near test rows that came later; they are left out of training", count)
    place = rows.column_names.index("split")
    return rows.set_column(place, "split", pc.if_else(near, "excluded", rows["split"]))


def _signed(accepted: Any, normal: Any) -> Any:
    import pyarrow as pa

    minhash = pa.array([row.tobytes() for row in signatures(normal)], pa.binary())
    return accepted.append_column("minhash", minhash).append_column("normal_digest", digests(normal))


def _assigned(rows: Any, split: Any, groups: Groups) -> Any:
    """The rows with their split, component and joins; an excluded row stands alone.

    Args:
        groups: of the rows that are not excluded.
    """
    import numpy as np
    import pyarrow as pa

    staying = split != EXCLUDED
    component, member = rows["normal_digest"].to_numpy().copy(), np.full(len(rows), -1)
    component[staying], member[staying] = groups.ids[groups.member], groups.member
    columns = {
        "split": pa.array([NAMES[code] for code in split.tolist()], pa.string()),
        "component": pa.array(component, pa.int64()),
        "joins": pa.array([groups.joins.get(number) for number in member.tolist()], pa.list_(pa.int64())),
    }
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows


def _groups(rows: Any, around: Any, texts: Any, look_up: Any, threshold: float | None) -> Groups:
    """Link rows by group, key, normalised input and near duplication, with each other and with known components."""
    import numpy as np
    import pyarrow as pa

    size = len(rows)
    known_ids, place = np.unique(canonical(around), return_inverse=True)
    node = np.concatenate([np.arange(size), size + place])
    normal = rows["normal_digest"].to_numpy()
    both = np.concatenate([normal, around["normal_digest"].to_numpy()])
    pairs = [chained(_codes(rows, around, name)) for name in ("group", "row_key")]
    pairs.append(chained(np.unique(both, return_inverse=True)[1]))
    if threshold is not None:

        def with_known(places: Any) -> Any:
            versions = around["row_version"].combine_chunks().take(pa.array(places))
            return pa.concat_arrays([texts, normalised(look_up(versions))]) if len(places) else texts

        pairs.append(links(_stored(rows), _stored(around), threshold, with_known))
    numbers = connected(size + len(known_ids), node[np.concatenate(pairs)])
    count = numbers.max(initial=-1) + 1
    held = np.zeros((count, len(NAMES)), dtype=bool)
    held[numbers[size + place], [NAMES.index(name) for name in around["split"].to_pylist()]] = True
    ids, joins = _identities(numbers[:size], numbers[size:], normal, known_ids, count)
    return Groups(numbers[:size], ids, joins, held)


def _identities(member: Any, around: Any, normal: Any, known_ids: Any, size: int) -> tuple[Any, dict[int, list[int]]]:
    import numpy as np

    largest = np.iinfo(np.int64).max
    own, known = np.full(size, largest), np.full(size, largest)
    np.minimum.at(own, member, normal)
    np.minimum.at(known, around, known_ids)
    touched = np.isin(around, member)
    joins: dict[int, list[int]] = {}
    for number, one in zip(around[touched].tolist(), known_ids[touched].tolist(), strict=True):
        if one != known[number]:
            joins.setdefault(number, []).append(one)
    has_known = np.bincount(around, minlength=size) > 0
    return np.where(has_known, known, own), joins


def _splits(accepted: Any, kept: Any, groups: Groups, rules: SplitRules, lend: bool) -> Any:
    """Codes of the rows' splits: the key's, else the given one, else the component's, else by hash.

    Args:
        kept: the key's split, `OPEN` for a new key.
    """
    import numpy as np

    share = _uniform(groups.ids)
    given = _given(accepted, groups, rules, share, lend)
    _warn_of_moves(kept, given)
    split = np.where(kept == OPEN, given, kept)
    held = groups.held.copy()
    decided = split != OPEN
    held[groups.member[decided], split[decided]] = True
    hashed = np.where(share < rules.test, TEST, np.where(share < rules.test + rules.validation, VALIDATION, TRAIN))
    count = held.sum(axis=1)
    of_component = np.where(count == 0, hashed, np.where(count == 1, held.argmax(axis=1), EXCLUDED))
    return _one_a_key(accepted, np.where(decided, split, of_component[groups.member]))


def _given(accepted: Any, groups: Groups, rules: SplitRules, share: Any, lend: bool) -> Any:
    """Given splits as the rules change them: train lends to validation, or is left out where it leaks."""
    import numpy as np

    names = accepted["given_split"].to_pylist()
    given = np.array([OPEN if name is None else NAMES.index(name) for name in names], dtype=np.int64)
    train = given == TRAIN
    if lend:
        held = groups.held
        lent = np.where(held[:, TRAIN], False, held[:, VALIDATION] | (share < rules.validation))
        given[train & lent[groups.member]] = VALIDATION
    if rules.leak == "exclude":
        tested = groups.held[:, TEST].copy()
        tested[groups.member[given == TEST]] = True
        given[train & tested[groups.member]] = EXCLUDED
    return given


def _of_known_keys(accepted: Any, known: Any) -> Any:
    import numpy as np
    import pyarrow.compute as pc

    place = pc.index_in(accepted["row_key"], value_set=known["row_key"]).fill_null(-1).to_numpy()
    codes = np.array([*(NAMES.index(name) for name in known["split"].to_pylist()), OPEN], dtype=np.int64)
    return codes[place]


def _one_a_key(accepted: Any, split: Any) -> Any:
    """Two versions of a row in one batch stand in one split, the more sealed one."""
    import numpy as np

    keys = np.asarray(accepted["row_key"].combine_chunks().dictionary_encode().indices)
    best = np.zeros(len(keys), dtype=np.int64)
    np.maximum.at(best, keys, split)
    return best[keys]


def _uniform(ids: Any) -> Any:
    """A number in [0, 1) for each id; the smallest of several ids is not spread evenly, its mix is (splitmix64)."""
    import numpy as np

    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def _codes(accepted: Any, known: Any, name: str) -> Any:
    import pyarrow as pa

    both = pa.concat_arrays([table[name].combine_chunks().cast(pa.string()) for table in (accepted, known)])
    return both.dictionary_encode().indices.fill_null(-1).to_numpy()


def _stored(known: Any) -> Any:
    import numpy as np

    joined = b"".join(known["minhash"].to_pylist())
    return np.frombuffer(joined, dtype=np.uint16).reshape(len(known), PERMUTATIONS)


def _warn_of_moves(kept: Any, given: Any) -> None:
    if moved := int(((kept != OPEN) & (given != OPEN) & (kept != given)).sum()):
        logger.warning("%d changed rows are given another split than they have; they keep the one they have", moved)


def _warn_of_large(groups: Groups) -> None:
    import numpy as np

    rows = len(groups.member)
    largest = int(np.bincount(groups.member).max(initial=0))
    if rows >= LARGE_FROM and largest > LARGE * rows:
        logger.warning(
            "%d of %d rows hang together by group or near duplication and stand in one split; "
            "check data.columns.group, or raise data.split.near_duplicate",
            largest,
            rows,
        )
