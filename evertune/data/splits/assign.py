"""Assign each row's split once, from the rows that it is linked with, never from its label; find leaked test rows."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.config.data import SplitRules
from evertune.data.columns.chunks import RowReader, make_row_reader
from evertune.data.columns.digests import digest_values
from evertune.data.splits.groups import (
    EXCLUDED,
    KNOWN,
    NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    Groups,
    LookUp,
    SharedValues,
    collect_links,
    encode_splits,
    find_components,
)
from evertune.data.splits.minhash import PERMUTATIONS, compute_signatures, make_comparable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = [
    "KNOWN",
    "NAMES",
    "add_signatures",
    "assign_splits",
    "exclude_leaked_rows",
    "find_leaked_rows",
    "lends_validation",
    "split_rows",
]

UNDECIDED = -1
LARGE = 0.2  # share of a batch's rows: a component with more of them is worth a warning ...
LARGE_FROM = 100  # ... in a batch of at least this many rows
logger = logging.getLogger(__name__)


def lends_validation(recipe: Recipe) -> bool:
    """Return whether rows of given train splits lend a share to validation, because no source gives validation rows."""
    return not any(source.split == "validation" for source in recipe.data.sources)


def split_rows(
    accepted: "pa.Table",
    corpus_rows: "pa.Table",
    rules: SplitRules,
    input_role: str,
    look_up: LookUp,
    lend: bool = True,
) -> "pa.Table":
    """Return the rows with `split`, `component`, `joins`, `signature` and `normal_digest`; known rows keep theirs.

    The result does not depend on the order of the rows.

    Args:
        accepted: rows from the contract.
        corpus_rows: the `KNOWN` columns of every row version in the corpus, superseded ones included.
        rules: the recipe's `data.split`.
        input_role: the role of the model's input.
        look_up: returns the inputs of known row versions, in their order.
        lend: whether rows of given train splits lend the share `rules.validation` to validation.
    """
    rows = add_signatures(accepted, input_role)
    with tempfile.TemporaryDirectory() as scratch:
        split_columns = assign_splits(
            make_row_reader(rows), make_row_reader(corpus_rows), rules, input_role, look_up, Path(scratch), lend
        )
    for name in split_columns.column_names:
        rows = rows.append_column(name, split_columns[name])
    return rows


def add_signatures(accepted: "pa.Table", input_role: str) -> "pa.Table":
    """Return the rows with `signature` and `normal_digest`, by which inputs are compared; each row independently."""
    import numpy as np
    import pyarrow as pa

    normal = make_comparable(accepted[input_role], input_role)
    offsets = np.arange(len(normal) + 1, dtype=np.int32) * np.int32(PERMUTATIONS * 2)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(compute_signatures(normal))]
    signature = pa.Array.from_buffers(pa.binary(), len(normal), buffers)
    return accepted.append_column("signature", signature).append_column("normal_digest", digest_values(normal))


def assign_splits(
    rows: RowReader,
    corpus_rows: RowReader,
    rules: SplitRules,
    input_role: str,
    look_up: LookUp,
    scratch: Path,
    lend: bool = True,
) -> "pa.Table":
    """Return `split`, `component` and `joins` of each row, in the rows' order.

    Args:
        rows: reads the batch's rows, from `add_signatures`.
        corpus_rows: reads the `KNOWN` columns of every row version in the corpus, superseded ones included.
        rules: the recipe's `data.split`.
        input_role: the role of the model's input.
        look_up: returns the inputs of known row versions, in their order.
        scratch: folder for temporary files.
        lend: whether rows of given train splits lend the share `rules.validation` to validation.
    """
    import numpy as np

    links, keys = collect_links(rows, corpus_rows, input_role, look_up, rules.near_duplicate, scratch)
    split = _find_known_splits(keys, links.split, links.size)
    is_linking = split != EXCLUDED
    groups = find_components(links, is_linking, rules.near_duplicate)
    given_codes = np.concatenate([np.zeros(0, dtype=np.int8), *_read_given_codes(rows)])
    split[is_linking] = _decide_splits(given_codes, keys, split, groups, rules, lend)[is_linking]
    _warn_of_large(groups)
    is_staying = split != EXCLUDED
    if (is_staying != is_linking).any():  # excluded rows link nothing: find the components without them
        groups = find_components(links, is_staying, rules.near_duplicate)
    row_digests = links.normal[: links.size]
    del links
    return _make_split_columns(split, groups, row_digests)


def _read_given_codes(rows: RowReader) -> "Iterator[np.ndarray]":
    """Yield the codes of the given splits, `UNDECIDED` for rows without one."""
    import numpy as np

    for chunk in rows(["given_split"]):
        yield encode_splits(chunk["given_split"]).fill_null(UNDECIDED).to_numpy().astype(np.int8)


def find_leaked_rows(rows: "pa.Table") -> "pa.Array":
    """Return the versions of the test rows whose component also has a train row.

    Args:
        rows: `row_version`, `split` and `component` of a snapshot's current rows.
    """
    import pyarrow.compute as pc

    train_components = rows.filter(pc.equal(rows["split"], "train"))["component"]
    test_rows = rows.filter(pc.equal(rows["split"], "test"))
    leaked_rows = test_rows.filter(pc.is_in(test_rows["component"], value_set=pc.unique(train_components)))
    return leaked_rows["row_version"].combine_chunks()


def exclude_leaked_rows(rows: "pa.Table", rules: SplitRules) -> "pa.Table":
    """Return the rows; with `leak: exclude` train rows whose component has a test row get the split `excluded`.

    Such test rows came later than the train rows, which keep their split in the corpus.

    Args:
        rows: a snapshot's current rows, with `split` and `component`.
        rules: the recipe's `data.split`.
    """
    import pyarrow.compute as pc

    if rules.leak == "report":
        return rows
    is_train = pc.equal(rows["split"], "train")
    test_components = pc.unique(rows["component"].filter(pc.equal(rows["split"], "test")))
    is_leaked = pc.and_(is_train, pc.is_in(rows["component"], value_set=test_components))
    count = pc.sum(is_leaked).as_py()
    if count:
        logger.info("excluded %d train rows that are linked with test rows that came later", count)
    index = rows.column_names.index("split")
    return rows.set_column(index, "split", pc.if_else(is_leaked, "excluded", rows["split"]))


def _make_split_columns(split: "np.ndarray", groups: Groups, row_digests: "np.ndarray") -> "pa.Table":
    """Return split, component and joins of each row; an excluded row is its own component.

    Args:
        split: codes of the rows' splits.
        groups: of the rows that are not excluded.
        row_digests: of their normalised inputs.
    """
    import numpy as np
    import pyarrow as pa

    is_staying = split != EXCLUDED
    component = groups.ids[groups.member]
    component[~is_staying] = row_digests[~is_staying]
    joins = pa.nulls(len(split), pa.list_(pa.int64()))
    if groups.joins:
        join_indices = np.full(len(groups.ids), -1, dtype=np.int32)
        join_indices[list(groups.joins)] = np.arange(len(groups.joins))
        row_joins = np.where(is_staying, join_indices[groups.member], -1)
        joins = pa.array(list(groups.joins.values()), joins.type).take(pa.array(row_joins, mask=row_joins < 0))
    return pa.table(
        {
            "split": pa.array(NAMES).take(pa.array(split)),
            "component": pa.array(component, pa.int64()),
            "joins": joins,
        }
    )


def _decide_splits(
    given_codes: "np.ndarray",
    keys: SharedValues,
    known_split: "np.ndarray",
    groups: Groups,
    rules: SplitRules,
    lend: bool,
) -> "np.ndarray":
    """Return codes of the rows' splits: the key's, else the given one, else the component's, else by hash.

    Args:
        given_codes: of the given splits, `UNDECIDED` where there is none.
        keys: rows that share a row key.
        known_split: the key's split, `UNDECIDED` for a new key.
        groups: components of the rows.
        rules: the recipe's `data.split`.
        lend: whether rows of given train splits lend a share to validation.
    """
    import numpy as np

    shares = _hash_uniformly(groups.ids)
    given_codes = _apply_rules(np.where(known_split == EXCLUDED, UNDECIDED, given_codes), groups, rules, shares, lend)
    _warn_of_moves(known_split, given_codes)
    split = np.where(known_split == UNDECIDED, given_codes, known_split)
    held_splits = groups.held_splits.copy()
    is_decided = split != UNDECIDED
    is_counted = is_decided & (known_split != EXCLUDED)
    held_splits[groups.member[is_counted], split[is_counted]] = True
    component_split = np.full(len(shares), TRAIN, dtype=np.int8)
    component_split[shares < rules.test + rules.validation] = VALIDATION
    component_split[shares < rules.test] = TEST
    split_counts = held_splits.sum(axis=1, dtype=np.int8)
    component_split[split_counts == 1] = held_splits[split_counts == 1].argmax(axis=1)
    component_split[split_counts > 1] = EXCLUDED
    return _unify_key_splits(keys, np.where(is_decided, split, component_split[groups.member]))


def _apply_rules(
    given_codes: "np.ndarray", groups: Groups, rules: SplitRules, shares: "np.ndarray", lend: bool
) -> "np.ndarray":
    """Return given splits as the rules change them: train rows lend to validation, or are excluded if they leak."""
    import numpy as np

    is_train = given_codes == TRAIN
    if lend:
        held_splits = groups.held_splits
        is_lent = np.where(held_splits[:, TRAIN], False, held_splits[:, VALIDATION] | (shares < rules.validation))
        given_codes[is_train & is_lent[groups.member]] = VALIDATION
    if rules.leak == "exclude":
        has_test = groups.held_splits[:, TEST].copy()
        has_test[groups.member[given_codes == TEST]] = True
        given_codes[is_train & has_test[groups.member]] = EXCLUDED
    return given_codes


def _find_known_splits(keys: SharedValues, known_split: "np.ndarray", size: int) -> "np.ndarray":
    """Return the split that each row's key has in the corpus, of its first row there; `UNDECIDED` for a new key."""
    import numpy as np

    split = np.full(size, UNDECIDED, dtype=np.int8)
    is_known = keys.rows >= size
    values, first = np.unique(keys.values[is_known], return_index=True)
    value_split = np.full(keys.values.max(initial=-1) + 1, UNDECIDED, dtype=np.int8)
    value_split[values] = known_split[keys.rows[is_known][first] - size]
    split[keys.rows[~is_known]] = value_split[keys.values[~is_known]]
    return split


def _unify_key_splits(keys: SharedValues, split: "np.ndarray") -> "np.ndarray":
    """Return the splits with all versions of a row in one batch in the same split, the last one in `NAMES`."""
    import numpy as np

    is_in_batch = keys.rows < len(split)
    row_indices = keys.rows[is_in_batch]
    values = keys.values[is_in_batch]
    value_split = np.zeros(values.max(initial=-1) + 1, dtype=split.dtype)
    np.maximum.at(value_split, values, split[row_indices])
    split[row_indices] = value_split[values]
    return split


def _hash_uniformly(ids: "np.ndarray") -> "np.ndarray":
    """Return a number in [0, 1) for each id (splitmix64): ids are not uniform, being the smallest of several."""
    import numpy as np

    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    shares: np.ndarray = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53
    return shares


def _warn_of_moves(known_split: "np.ndarray", given_codes: "np.ndarray") -> None:
    is_moved = (known_split != UNDECIDED) & (given_codes != UNDECIDED) & (known_split != given_codes)
    if is_moved.any():
        logger.warning("%d changed rows now have another given split; they keep their old one", is_moved.sum())


def _warn_of_large(groups: Groups) -> None:
    import numpy as np

    rows = len(groups.member)
    largest = int(np.bincount(groups.member).max(initial=0))
    if rows >= LARGE_FROM and largest > LARGE * rows:
        logger.warning(
            "%d of %d rows are linked by group or near duplication and share one split; "
            "check data.columns.group, or raise data.split.near_duplicate",
            largest,
            rows,
        )
