"""The drift check: do new rows differ from those that the champion was tested on?"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.columns.chunks import make_row_reader
from evertune.data.columns.components import resolve_components
from evertune.data.corpus import transactions as corpus
from evertune.data.row_versions import blank_to_null
from evertune.data.sources import read as sources
from evertune.data.sources.tables import get_converter
from evertune.data.splits import assign as splits
from evertune.errors import DataError
from evertune.monitoring import observations, unseen_rows, wording
from evertune.objectives import Objective, extract_cells, load_objective
from evertune.records import Monitoring
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import two_sample
from evertune.statistics.two_sample import Sample

if TYPE_CHECKING:
    import pyarrow as pa

RUN_ROWS = 400  # test rows of a side that a retraining compares


@dataclass(frozen=True)
class Side:
    """The rows of one side of a comparison.

    Args:
        source: where they come from, for people.
        targets: labels; None if they are not known.
        groups, kinds: (rows,) see `two_sample.Sample`; None if each row is its own group, and all are of one kind.
        left_out: number of rows that are left out, because they are versions of rows that the champion knows, or are in
            or near them.
    """

    source: str
    inputs: Sequence[Any]
    targets: Sequence[Any] | None
    groups: NDArray[Any] | None = None
    kinds: NDArray[Any] | None = None
    left_out: int = 0

    def select_rows(self, mask: NDArray[np.bool_]) -> "Side":
        """Return the rows of a mask (rows,); the others do not count as left out."""
        indices = np.flatnonzero(mask).tolist()
        return replace(
            self,
            inputs=[self.inputs[index] for index in indices],
            targets=None if self.targets is None else [self.targets[index] for index in indices],
            groups=None if self.groups is None else np.asarray(self.groups)[indices],
            kinds=None if self.kinds is None else np.asarray(self.kinds)[indices],
        )


@dataclass(frozen=True)
class DriftComparison:
    """The result of a drift check, with the samples of both sides; None if there are too few rows."""

    found: Monitoring
    reference: Sample | None = None
    current: Sample | None = None


def load_corpus_sides(context: RunContext, champion: Path) -> tuple[Side, Side]:
    """Return the champion's own test rows, and the corpus rows that came since; it was trained on neither.

    Args:
        champion: its bundle.
    Raises:
        DataError: the corpus cannot be read.
    """
    known_rows, all_rows = _load_row_versions(context.home, champion)
    batch = int(bundle.read_card(champion)["snapshot"]["batch"])
    rows = label_names.rename_rows(
        corpus.read_rows(context.home, corpus.newest_version(context.home), since=batch), context.recipe
    )
    rows = _set_components(rows, all_rows)
    tested, fresh = unseen_rows.select_both_sides(known_rows, rows)
    now = _build_side(context.recipe, rows, "the rows that came since the champion was trained", fresh.recurs)
    return _load_reference(context, champion, known_rows, tested), _select_new(now, fresh.kept)


def load_file_sides(context: RunContext, champion: Path, path: str, encoding: str | None = None) -> tuple[Side, Side]:
    """Return the champion's own test rows, and those of a file, linked with the corpus as by an ingest.

    Args:
        champion: its bundle.
        path: of the file.
        encoding: of a text file. Default: that of the recipe's files.
    Raises:
        DataError: the file cannot be read, or has no row with an input.
    """
    known_rows, all_rows = _load_row_versions(context.home, champion)
    table, inputs, targets = read_file_rows(context.recipe, path, encoding)
    rows = _link_rows(context, table, all_rows)
    tested, fresh = unseen_rows.select_both_sides(known_rows, rows)
    now = Side(path, inputs, targets, rows["component"].to_numpy(), fresh.recurs)
    return _load_reference(context, champion, known_rows, tested), _select_new(now, fresh.kept)


def _load_row_versions(home: Home, champion: Path) -> "tuple[pa.Table, pa.Table]":
    """Return all versions of the rows in the champion's snapshot, and of all rows, with today's components."""
    import pyarrow.compute as pc

    names = ["row_version", *unseen_rows.COLUMNS, "joins", "batch"]
    all_rows = corpus.read_history(home, names)
    all_rows = all_rows.set_column(names.index("component"), "component", [resolve_components(all_rows)])
    last_batch = int(bundle.read_card(champion)["snapshot"]["batch"])
    return all_rows.filter(pc.less_equal(all_rows["batch"], last_batch)), all_rows


def _load_reference(context: RunContext, champion: Path, known_rows: "pa.Table", tested: unseen_rows.Unseen) -> Side:
    version = int(bundle.read_card(champion)["snapshot"]["version"])
    rows = _set_components(label_names.rename_rows(corpus.read_rows(context.home, version), context.recipe), known_rows)
    kept_mask, recurs = (_look_up_values(rows, known_rows, values) for values in (tested.kept, tested.recurs))
    return _build_side(context.recipe, rows, f"the champion's test rows, snapshot {version}", recurs).select_rows(
        kept_mask
    )


def _set_components(rows: "pa.Table", all_rows: "pa.Table") -> "pa.Table":
    """Return the rows with today's components; rows that were forgotten since are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = rows.filter(pc.is_in(rows["row_version"], value_set=all_rows["row_version"]))
    if "component" in rows.column_names:
        rows = rows.drop_columns("component")
    return rows.append_column("component", pa.array(_look_up_values(rows, all_rows, all_rows["component"]), pa.int64()))


def _look_up_values(rows: "pa.Table", all_rows: "pa.Table", values: Any) -> Any:
    """Return the values of the rows.

    Args:
        all_rows: contains the rows.
        values: one for each of `all_rows`.
    """
    import pyarrow.compute as pc

    indices = pc.index_in(rows["row_version"], value_set=all_rows["row_version"].combine_chunks()).to_numpy()
    return np.asarray(values)[indices]


def _select_new(side: Side, kept_mask: Any) -> Side:
    return replace(side.select_rows(kept_mask), left_out=int((~kept_mask).sum()))


def _link_rows(context: RunContext, rows: "pa.Table", all_rows: "pa.Table") -> "pa.Table":
    """Return a file's rows with the split and component that an ingest would give them; the corpus does not change."""
    import pyarrow as pa

    role = context.objective.INPUTS[0]
    signed_rows = splits.add_signatures(rows, role)
    with tempfile.TemporaryDirectory() as scratch:
        assigned = splits.assign_splits(
            make_row_reader(signed_rows),
            corpus.known_rows(context.home),
            context.recipe.data.split,
            role,
            corpus.make_input_lookup(context.home, role),
            Path(scratch),
        )
    combined = pa.concat_tables([table.select(["component", "joins"]) for table in (assigned, all_rows)])
    component = pa.array(resolve_components(combined)[: len(rows)])
    columns = {name: rows[name] for name in ("row_key", "group")}
    return pa.table({**columns, "split": assigned["split"], "component": component})


def count_new_rows(context: RunContext, champion: Path) -> int:
    """Return how many corpus rows came, or got another label, since the champion was trained.

    Raises:
        DataError: the corpus cannot be read.
    """
    batch = int(bundle.read_card(champion)["snapshot"]["batch"])
    rows = corpus.read_rows(
        context.home, corpus.newest_version(context.home), ["row_version", "row_key", "batch"], since=batch
    )
    return int((corpus.find_first_batches(context.home, rows, context.recipe) > batch).sum())


def read_file_rows(
    recipe: Recipe, path: str, encoding: str | None = None
) -> "tuple[pa.Table, list[Any], list[Any] | None]":
    """Return the rows of a file that have an input: link columns, inputs, and labels if every row has one.

    Args:
        encoding: of a text file. Default: that of the recipe's files.
    Raises:
        DataError: the file cannot be read, or has no row with an input.
    """
    import pyarrow as pa

    objective = load_objective(recipe.objective.type)
    column = recipe.column(objective.TARGET)
    role = objective.INPUTS[0]
    inputs = list[Any]()
    targets = list[Any]()
    labelled = bool(objective.LABELED)
    tables = list[Any]()
    for chunk in sources.read_inputs(path, recipe, encoding):
        valid_indices = [index for index, value in enumerate(chunk.values) if value and chunk.problems[index] is None]
        inputs += [chunk.values[index] for index in valid_indices]
        table = chunk.table.take(pa.array(valid_indices, pa.int64()))
        group = recipe.data.columns.get("group")
        groups = (
            blank_to_null(table[group].cast("string"))
            if group in table.column_names
            else pa.nulls(len(valid_indices), "string")
        )
        tables.append(pa.table({role: table[recipe.column(role)], "group": groups}))
        labelled = labelled and column in table.column_names
        targets += _convert_labels(table[column].to_pylist(), objective) if labelled else []
    if not inputs:
        raise DataError(
            f"{path}: no row has a value in the column {recipe.column(role)}, so there is nothing to compare"
        )
    kind = objective.COLUMNS[objective.TARGET]
    # A set of labels may be empty.
    is_fully_labelled = labelled and all(target or (target == [] and kind == "labels") for target in targets)
    names = pa.array([f"row {number} of the file" for number in range(len(inputs))])
    rows = pa.concat_tables(tables).append_column("row_version", names).append_column("row_key", names)
    rows = rows.append_column("given_split", pa.nulls(len(rows), "string"))
    return rows, inputs, _rename_labels(recipe, targets) if is_fully_labelled else None


def _convert_labels(raw_labels: list[Any], objective: Objective) -> list[Any]:
    """Return the targets of a file's cells, in which lists are encoded as text; None for cells that cannot be read."""
    convert = get_converter(objective.COLUMNS[objective.TARGET], None)
    labels = list[Any]()
    for cell in raw_labels:
        try:
            labels.append(convert(cell))
        except ValueError:
            labels.append(None)
    return labels


def compare_run_rows(recipe: Recipe, champion: Path, version: int, rows: "pa.Table", since: int) -> Monitoring | None:
    """Compare the test rows that came since the champion with the older ones; None if either are too few.

    Args:
        champion: its bundle.
        version: of the champion.
        rows: test rows of a run, with `batch`.
        since: newest batch that the champion knew.
    Raises:
        TrainingError: the champion cannot be loaded, or does not predict.
    """
    is_new = rows["batch"].to_numpy() > since
    sides = [rows.filter(~is_new), rows.filter(is_new)]
    if min(map(len, sides)) < recipe.monitor.min_rows:
        return None
    names = ("the test rows that the champion knew", "the test rows that came since")
    before, now = (_build_side(recipe, _draw_rows(side, recipe), name) for side, name in zip(sides, names, strict=True))
    return compare_sides(recipe, champion, version, before, now).found


def _draw_rows(rows: "pa.Table", recipe: Recipe) -> "pa.Table":
    if len(rows) <= RUN_ROWS:
        return rows
    generator = np.random.default_rng(recipe.training.seed)
    return rows.take(np.sort(generator.choice(len(rows), RUN_ROWS, replace=False)))


def compare_sides(recipe: Recipe, champion: Path, version: int, before: Side, now: Side) -> DriftComparison:
    """Compare both sides as the champion sees them: its inputs, its hidden states and its predictions.

    Args:
        champion: its bundle.
        version: of the champion.
        before, now: the test rows of the champion, and the new rows.
    Raises:
        TrainingError: the champion cannot be loaded, or does not predict.
    """
    rules = recipe.monitor
    sizes = {"reference": len(before.inputs), "current": len(now.inputs)}
    if min(sizes.values()) < rules.min_rows:
        reason = (
            f"too few rows: {sizes['current']} new rows and {sizes['reference']} test rows (minimum on either side: "
            f"{rules.min_rows})"
        )
        too_few = Monitoring(recipe.registered_name, version, False, reason, None, rules.level, sizes, now.source)
        return DriftComparison(replace(too_few, left_out=now.left_out))
    predictor = bundle.load_predictor(champion)
    with_labels = now.targets is not None
    samples = [
        observations.observe_rows(
            predictor, recipe, side.inputs, side.targets if with_labels else None, side.groups, side.kinds
        )
        for side in (before, now)
    ]
    result = two_sample.compare_samples(
        samples[0], samples[1], recipe.training.seed, two_sample.count_required_deals(rules.level)
    )
    words_by_test = {
        finding.test: wording.describe_finding(finding, samples[0], samples[1], predictor)
        for finding in result.findings
    }
    findings = tuple(
        {**asdict(finding), "found": finding.adjusted <= rules.level, "words": words_by_test[finding.test]}
        for finding in result.findings
    )
    drifted = result.p <= rules.level
    reason = wording.describe_drift(findings, result.p, rules.level, drifted)
    monitoring = Monitoring(
        recipe.registered_name,
        version,
        drifted,
        reason,
        result.p,
        rules.level,
        dict(zip(sizes, result.rows, strict=True)),
        now.source,
        findings,
        left_out=now.left_out,
    )
    return DriftComparison(monitoring, samples[0], samples[1])


def _build_side(recipe: Recipe, rows: "pa.Table", source: str, kinds: NDArray[Any] | None = None) -> Side:
    objective = load_objective(recipe.objective.type)
    targets = extract_cells(rows, [objective.TARGET]) if objective.LABELED else None
    return Side(source, extract_cells(rows, objective.INPUTS), targets, rows["component"].to_numpy(), kinds)


def _rename_labels(recipe: Recipe, targets: list[Any]) -> list[Any]:
    import pyarrow as pa

    renamed = recipe.contract.label.rename
    return label_names.rename_values(pa.array(targets), renamed).to_pylist() if renamed else targets
