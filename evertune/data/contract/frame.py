"""Build the frame that the contract checks: a batch's rows in flat columns, with columns that name a row's problem."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.columns.chunks import RowReader, find_repeated_strings, select_rows
from evertune.data.columns.components import find_repeated, mask_members, sort_distinct
from evertune.data.row_versions import blank_to_null, has_id, list_roles
from evertune.objectives import extract_cells, load_objective

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SKEW = timedelta(days=1)  # clocks are off by minutes, local times without their zone by half a day
KnownInputs = Callable[["pa.Array"], "pa.Table"]


@dataclass(frozen=True)
class AllowedLabels:
    """The values that a label or tag may have.

    Args:
        values: those of the corpus come first.
        inferred: whether they come from this batch alone, as for a first batch.
        joining: values that are new to the corpus, with the number of rows of this batch that have them.
        unknown: values of this batch that are not allowed, with their number of rows.
    """

    values: list[str]
    inferred: bool
    joining: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchFacts:
    """What is known of rows only from their whole batch.

    Args:
        permitted: values of the label.
        problems: for each column that names a problem, the sorted indices of the rows that have it, and its texts.
    """

    permitted: AllowedLabels
    problems: "dict[str, tuple[np.ndarray, pa.Array]]"

    def slice_rows(self, start: int, size: int) -> "BatchFacts":
        """Return the facts of `size` rows from `start` on, numbered from there."""
        problems = {}
        for name, (row_indices, texts) in self.problems.items():
            low, high = row_indices.searchsorted([start, start + size])
            problems[name] = (row_indices[low:high] - start, texts.slice(low, high - low))
        return BatchFacts(self.permitted, problems)


def collect_batch_facts(
    rows: RowReader, recipe: Recipe, known_labels: tuple[str, ...], known_inputs: KnownInputs
) -> BatchFacts:
    """Find the allowed labels, repeated ids, timestamps in the future and inputs with two labels.

    Args:
        rows: reads rows from `row_versions.add_keys`.
        recipe: has the contract.
        known_labels: of the corpus, in their order.
        known_inputs: see `corpus.read.known_inputs`.
    """
    permitted = find_allowed_labels(rows, recipe, known_labels)
    problems = {}
    if has_id(recipe):
        problems["duplicate_id"] = _find_duplicate_ids(rows)
    elif recipe.contract.conflicts == "refuse" and load_objective(recipe.objective.type).LABELED:
        problems["two_labels"] = _find_label_conflicts(rows, recipe, permitted, known_inputs)
    if "timestamp" in list_roles(recipe) and recipe.contract.future == "refuse":
        problems["future"] = _find_future_rows(rows, datetime.now(UTC))
    return BatchFacts(permitted, problems)


def find_allowed_labels(rows: RowReader, recipe: Recipe, known_labels: tuple[str, ...]) -> AllowedLabels:
    """Return the recipe's list, else the corpus' labels, else every value that enough rows of this batch have.

    With `contract.label.new: grow` such values join those of the corpus. Old names of renamed labels are allowed too.
    """
    rules = recipe.contract.label
    counts = _count_labels(rows, recipe)
    frequent_labels = sorted(label for label in counts if counts[label] >= rules.min_rows and label.strip())
    base_labels = list(rules.values) if rules.values != "inferred" else list(known_labels)
    inferred = rules.values == "inferred" and not known_labels
    may_grow = inferred or (rules.new == "grow" and rules.values == "inferred")
    new_labels = [label for label in frequent_labels if label not in base_labels] if may_grow else []
    values = list(dict.fromkeys([*base_labels, *new_labels, *rules.rename, *rules.rename.values()]))
    allowed_set = set(values)
    if inferred:  # no label was known before
        return AllowedLabels(values, inferred)
    unknown = {label: count for label, count in counts.items() if label not in allowed_set}
    return AllowedLabels(values, inferred, {label: counts[label] for label in new_labels}, unknown)


def _count_labels(rows: RowReader, recipe: Recipe) -> Counter[str]:
    """Return the number of rows that have each value of the label."""
    import pyarrow.compute as pc

    counts = Counter[str]()
    if not load_objective(recipe.objective.type).LABELED:
        return counts
    for chunk in rows([get_target_role(recipe)]):
        value_counts = pc.value_counts(list_labels(chunk, recipe)[1]).to_pylist()
        counts.update({entry["values"]: entry["counts"] for entry in value_counts})
    return counts


def list_labels(table: "pa.Table", recipe: Recipe) -> "tuple[np.ndarray, pa.Array]":
    """Return row indices and labels, each label once per row, without missing ones."""
    import pyarrow as pa

    column = table[get_target_role(recipe)].combine_chunks()
    if pa.types.is_list(column.type):
        import pyarrow.compute as pc

        pairs = pa.table({"row": pc.list_parent_indices(column).cast(pa.int64()), "value": column.flatten()})
        pairs = pairs.group_by(["row", "value"], use_threads=False).aggregate([])
    else:
        import numpy as np

        pairs = pa.table({"row": np.arange(len(column)), "value": column})
    pairs = pairs.filter(pairs["value"].is_valid())
    return pairs["row"].to_numpy(), pairs["value"].combine_chunks()


def get_target_role(recipe: Recipe) -> str:
    """Return the role that the model learns to predict."""
    return str(load_objective(recipe.objective.type).TARGET)


def build_frame(table: "pa.Table", recipe: Recipe, batch_facts: BatchFacts) -> "pa.Table":
    """Return the roles and the derived columns of some rows; lists are joined by spaces, with columns of their counts.

    Args:
        table: rows from `row_versions.add_keys`.
        recipe: has the objective and the contract.
        batch_facts: of these rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    objective = load_objective(recipe.objective.type)
    for role in list_roles(recipe):
        columns[role] = table[role]
        if pa.types.is_list(table[role].type):
            columns[role] = pc.binary_join(table[role], " ")
            columns[f"{role.removesuffix('s')}_count"] = pc.list_value_length(table[role])
            columns[f"{role}_problem"] = _find_item_problems(table[role].combine_chunks())
        elif role == objective.TARGET and role not in objective.INPUTS:
            columns[role] = blank_to_null(table[role])
    if objective.checks_rows:
        targets = table[objective.TARGET].to_pylist()
        problems = objective.find_problems(extract_cells(table, objective.INPUTS), targets, recipe.objective)
        columns["row_problem"] = pa.array(problems, pa.string())
    columns["timestamp_problem"] = table["timestamp_problem"]
    if pa.types.is_list(table[get_target_role(recipe)].type) and objective.LABELED:
        label_rows, label_values = _find_foreign_labels(table, recipe, batch_facts.permitted)
        columns["unknown_tag"] = _take_first_of_each(label_rows, label_values, len(table))
    for name, (row_indices, texts) in batch_facts.problems.items():
        columns[name] = _fill_column(row_indices, texts, len(table))
    return pa.table(columns)


def _find_foreign_labels(table: "pa.Table", recipe: Recipe, permitted: AllowedLabels) -> "tuple[np.ndarray, pa.Array]":
    """Return row indices and labels of those that are not allowed."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    row_indices, values = list_labels(table, recipe)
    is_foreign = np.asarray(pc.invert(pc.is_in(values, value_set=pa.array(permitted.values, pa.string()))))
    return row_indices[is_foreign], values.filter(pa.array(is_foreign))


def _fill_column(row_indices: "np.ndarray", texts: "pa.Array", size: int) -> "pa.Array":
    """Return a column of `size` rows with the texts at their rows and null elsewhere."""
    import numpy as np
    import pyarrow as pa

    text_indices = np.full(size, -1)
    text_indices[row_indices] = np.arange(len(row_indices))
    return texts.take(pa.array(text_indices, mask=text_indices < 0))


def _find_item_problems(lists: "pa.ListArray") -> "pa.Array":
    """Return for each list the problem of its first missing or blank item; null where there is none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    items = lists.flatten()
    is_blank = np.asarray(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(items), ""), True))
    row_indices = np.asarray(pc.list_parent_indices(lists))[is_blank]
    positions = (
        np.flatnonzero(is_blank) - np.asarray(lists.offsets.take(pa.array(row_indices))) + lists.offsets[0].as_py()
    )
    texts = pa.array([f"item {item_index} is empty" for item_index in positions.tolist()], pa.string())
    return _take_first_of_each(row_indices, texts, len(lists))


def _take_first_of_each(row_indices: "np.ndarray", values: "pa.Array", size: int) -> "pa.Array":
    """Return a column of `size` rows with the first value of each row; null where there is none."""
    import numpy as np
    import pyarrow as pa

    rows, first = np.unique(row_indices, return_index=True)
    value_indices = np.full(size, -1)
    value_indices[rows] = first
    return values.take(pa.array(value_indices, mask=value_indices < 0))


def _find_duplicate_ids(rows: RowReader) -> "tuple[np.ndarray, pa.Array]":
    """Find rows that share an id within the batch, unless each of them has a timestamp of its own."""
    import numpy as np
    import pyarrow as pa

    row_indices = find_repeated_strings([rows], "id")
    empty = pa.schema([("id", pa.string()), ("timestamp", pa.timestamp("us", "UTC"))]).empty_table()
    table = pa.concat_tables([empty, *select_rows(rows, ["id", "timestamp"], row_indices)])
    codes = np.asarray(table["id"].combine_chunks().dictionary_encode().indices, dtype=np.int64)
    moments = table["timestamp"].combine_chunks().cast(pa.int64())
    pairs = np.column_stack([codes, moments.fill_null(0).to_numpy(), np.asarray(moments.is_null())])
    row_counts = np.bincount(codes)
    distinct_pairs = np.unique(pairs, axis=0)
    moment_counts = np.bincount(distinct_pairs[distinct_pairs[:, 2] == 0][:, 0], minlength=len(row_counts))
    is_duplicate = ((row_counts > moment_counts) & (row_counts > 1))[codes]
    texts = [f"{count} different rows have this id" for count in row_counts[codes][is_duplicate].tolist()]
    return row_indices[is_duplicate], pa.array(texts, pa.string())


def _find_future_rows(rows: RowReader, now: datetime) -> "tuple[np.ndarray, pa.Array]":
    """Find rows with a timestamp that is further ahead than clocks are off."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    start = 0
    index_parts = [np.zeros(0, dtype=np.int64)]
    moments = list[datetime]()
    latest = pa.scalar(now + SKEW)
    for chunk in rows(["timestamp"]):
        is_future = np.asarray(pc.fill_null(pc.greater(chunk["timestamp"], latest), False))
        index_parts.append(start + np.flatnonzero(is_future))
        moments += chunk["timestamp"].filter(pa.array(is_future)).to_pylist()
        start += len(chunk)
    texts = [
        f"{moment:%Y-%m-%d %H:%M} is in the future (this machine's clock: {now:%Y-%m-%d %H:%M})" for moment in moments
    ]
    return np.concatenate(index_parts), pa.array(texts, pa.string())


def _find_label_conflicts(
    rows: RowReader, recipe: Recipe, permitted: AllowedLabels, known_inputs: KnownInputs
) -> "tuple[np.ndarray, pa.Array]":
    """Find rows whose input also has another target in the batch or in the corpus, both under their current names."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    pairs, usable_rows = _read_digests(rows, recipe, permitted)
    known_pairs = known_inputs(pa.array(sort_distinct(pairs[usable_rows, 0]), pa.int64())).select(
        ["input_digest", "target_digest"]
    )
    is_doubtful = np.zeros(len(pairs), dtype=bool)
    is_doubtful[usable_rows[find_repeated(pairs[usable_rows, 0].view(np.uint64))]] = True
    is_doubtful[usable_rows[mask_members(pairs[usable_rows, 0], known_pairs["input_digest"].to_numpy())]] = True
    row_indices = np.flatnonzero(is_doubtful)
    batch_pairs = pa.table(dict(zip(known_pairs.column_names, pairs[row_indices].T, strict=True)))
    batch_conflicts = _find_disputed_inputs(batch_pairs)
    all_conflicts = _find_disputed_inputs(pa.concat_tables([batch_pairs, known_pairs]))
    is_in_batch, is_anywhere = (
        pc.is_in(batch_pairs["input_digest"], value_set=conflicts).combine_chunks()
        for conflicts in (batch_conflicts, all_conflicts)
    )
    texts = pc.case_when(
        pc.make_struct(is_in_batch, is_anywhere),
        "the same input has another label in this batch",
        "the same input has another label in the corpus",
    )
    is_conflict = np.asarray(texts.is_valid())
    return row_indices[is_conflict], texts.filter(pa.array(is_conflict))


def _read_digests(rows: RowReader, recipe: Recipe, permitted: AllowedLabels) -> "tuple[np.ndarray, np.ndarray]":
    """Return digests of input and target, (rows, 2), and indices of rows that have both and an allowed label."""
    import numpy as np

    names = ["input_digest", "target_digest"]
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    usable_masks = [np.zeros(0, dtype=bool)]
    for chunk in rows([*names, get_target_role(recipe)]):
        is_usable = np.asarray(chunk[names[0]].is_valid()) & np.asarray(chunk[names[1]].is_valid())
        is_usable[_find_foreign_labels(chunk, recipe, permitted)[0]] = False
        columns = [chunk["input_digest"], label_names.digest_targets(chunk, recipe)]
        pairs.append(np.column_stack([column.fill_null(0).to_numpy() for column in columns]))
        usable_masks.append(is_usable)
    return np.concatenate(pairs), np.flatnonzero(np.concatenate(usable_masks))


def _find_disputed_inputs(pairs: "pa.Table") -> "pa.Array":
    """Return the inputs that have more than one target."""
    import pyarrow.compute as pc

    distinct_pairs = pairs.group_by(pairs.column_names, use_threads=False).aggregate([])
    counts = pc.value_counts(distinct_pairs["input_digest"])
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
