"""A row's split: assigned once from what it is linked with, never from its label; and which test rows leak."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config import Recipe
from evertune.config.data import SplitRules
from evertune.data.columns.chunks import Rows, of_table
from evertune.data.columns.digests import digests
from evertune.data.splits.groups import (
    EXCLUDED,
    KNOWN,
    NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    Groups,
    LookUp,
    Tied,
    codes,
    gathered,
    grouped,
)
from evertune.data.splits.minhash import PERMUTATIONS, comparable, signatures

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KNOWN", "NAMES", "apart", "assign", "dealt", "leaked", "lends_validation", "signed"]

OPEN = -1  # not decided yet
LARGE = 0.2  # a component with more of a batch's rows than this is worth a warning ...
LARGE_FROM = 100  # ... in a batch of at least this many
logger = logging.getLogger(__name__)


def lends_validation(recipe: Recipe) -> bool:
    """Whether given train rows lend a share to validation, because no source gives validation rows."""
    return not any(source.split == "validation" for source in recipe.data.sources)


def assign(
    accepted: "pa.Table", known: "pa.Table", rules: SplitRules, inputs: str, look_up: LookUp, lend: bool = True
) -> "pa.Table":
    """The rows with `split`, `component`, `joins`, `signature` and `normal_digest`; known rows keep theirs.

    The order of the rows changes nothing.

    Args:
        accepted: rows as the contract gives them.
        known: the `KNOWN` columns of every row version in the corpus, superseded ones too.
        inputs: the role that holds the model's input.
        look_up: gives the inputs of known row versions, in order.
        lend: whether given train rows lend the share `rules.validation` to validation.
    """
    rows = signed(accepted, inputs)
    with tempfile.TemporaryDirectory() as scratch:
        dealing = dealt(of_table(rows), of_table(known), rules, inputs, look_up, Path(scratch), lend)
    for name in dealing.column_names:
        rows = rows.append_column(name, dealing[name])
    return rows


def signed(accepted: "pa.Table", inputs: str) -> "pa.Table":
    """The rows with `signature` and `normal_digest`, by which their inputs are compared; each row for itself."""
    import numpy as np
    import pyarrow as pa

    normal = comparable(accepted[inputs], inputs)
    ends = np.arange(len(normal) + 1, dtype=np.int32) * np.int32(PERMUTATIONS * 2)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(signatures(normal))]
    signature = pa.Array.from_buffers(pa.binary(), len(normal), buffers)
    return accepted.append_column("signature", signature).append_column("normal_digest", digests(normal))


def dealt(
    rows: Rows, known: Rows, rules: SplitRules, inputs: str, look_up: LookUp, scratch: Path, lend: bool = True
) -> "pa.Table":
    """`split`, `component` and `joins` of each row, in the rows' order; see `assign`.

    Args:
        rows: reads the batch's rows, from `signed`.
        known: reads the `KNOWN` columns of the corpus.
        scratch: folder for files that are gone when this returns.
    """
    import numpy as np

    links, keys = gathered(rows, known, inputs, look_up, rules.near_duplicate, scratch)
    split = _of_known_keys(keys, links.split, links.size)
    linking = split != EXCLUDED
    groups = grouped(links, linking, rules.near_duplicate)
    given = np.concatenate([np.zeros(0, dtype=np.int8), *_given_codes(rows)])
    split[linking] = _splits(given, keys, split, groups, rules, lend)[linking]
    _warn_of_large(groups)
    staying = split != EXCLUDED
    if (staying != linking).any():  # what is left out links nothing: the others hang together without it
        groups = grouped(links, staying, rules.near_duplicate)
    normal = links.normal[: links.size]
    del links
    return _dealt(split, groups, normal)


def _given_codes(rows: Rows) -> Iterator[Any]:
    import numpy as np

    for part in rows(["given_split"]):
        yield codes(part["given_split"]).fill_null(OPEN).to_numpy().astype(np.int8)


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


def _dealt(split: Any, groups: Groups, normal: Any) -> "pa.Table":
    """Split, component and joins of each row; an excluded row stands alone.

    Args:
        groups: of the rows that are not excluded.
    """
    import numpy as np
    import pyarrow as pa

    staying = split != EXCLUDED
    component = groups.ids[groups.member]
    component[~staying] = normal[~staying]
    joins = pa.nulls(len(split), pa.list_(pa.int64()))
    if groups.joins:
        place = np.full(len(groups.ids), -1, dtype=np.int32)
        place[list(groups.joins)] = np.arange(len(groups.joins))
        joined = np.where(staying, place[groups.member], -1)
        joins = pa.array(list(groups.joins.values()), joins.type).take(pa.array(joined, mask=joined < 0))
    return pa.table(
        {
            "split": pa.array(NAMES).take(pa.array(split)),
            "component": pa.array(component, pa.int64()),
            "joins": joins,
        }
    )


def _splits(given: Any, keys: Tied, kept: Any, groups: Groups, rules: SplitRules, lend: bool) -> Any:
    """Codes of the rows' splits: the key's, else the given one, else the component's, else by hash.

    Args:
        given: codes of the given splits, `OPEN` where there is none.
        kept: the key's split, `OPEN` for a new key.
    """
    import numpy as np

    share = _uniform(groups.ids)
    given = _given(np.where(kept == EXCLUDED, OPEN, given), groups, rules, share, lend)
    _warn_of_moves(kept, given)
    split = np.where(kept == OPEN, given, kept)
    held = groups.held.copy()
    decided = split != OPEN
    counted = decided & (kept != EXCLUDED)
    held[groups.member[counted], split[counted]] = True
    of_component = np.full(len(share), TRAIN, dtype=np.int8)
    of_component[share < rules.test + rules.validation] = VALIDATION
    of_component[share < rules.test] = TEST
    count = held.sum(axis=1, dtype=np.int8)
    of_component[count == 1] = held[count == 1].argmax(axis=1)
    of_component[count > 1] = EXCLUDED
    return _one_a_key(keys, np.where(decided, split, of_component[groups.member]))


def _given(given: Any, groups: Groups, rules: SplitRules, share: Any, lend: bool) -> Any:
    """Given splits as the rules change them: train lends to validation, or is left out where it leaks."""
    import numpy as np

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


def _of_known_keys(keys: Tied, known: Any, size: int) -> Any:
    """The split that each row's key has in the corpus, of the first row there; `OPEN` for a new key."""
    import numpy as np

    split = np.full(size, OPEN, dtype=np.int8)
    there = keys.places >= size
    values, first = np.unique(keys.values[there], return_index=True)
    of_value = np.full(keys.values.max(initial=-1) + 1, OPEN, dtype=np.int8)
    of_value[values] = known[keys.places[there][first] - size]
    split[keys.places[~there]] = of_value[keys.values[~there]]
    return split


def _one_a_key(keys: Tied, split: Any) -> Any:
    """Two versions of a row in one batch stand in one split, the more sealed one."""
    import numpy as np

    here = keys.places < len(split)
    places, values = keys.places[here], keys.values[here]
    best = np.zeros(values.max(initial=-1) + 1, dtype=split.dtype)
    np.maximum.at(best, values, split[places])
    split[places] = best[values]
    return split


def _uniform(ids: Any) -> Any:
    """A number in [0, 1) for each id; the smallest of several ids is not spread evenly, its mix is (splitmix64)."""
    import numpy as np

    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


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
