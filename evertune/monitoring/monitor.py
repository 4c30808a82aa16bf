"""Are the rows that come still those that the champion was tested on? The rows of both sides, the tests, the words."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.columns.chunks import of_table
from evertune.data.columns.components import canonical
from evertune.data.corpus import transactions as corpus
from evertune.data.row_versions import present
from evertune.data.sources import read as sources
from evertune.data.sources.tables import converter
from evertune.data.splits import assign as splits
from evertune.errors import DataError
from evertune.monitoring import observations as observing
from evertune.monitoring import unseen_rows as unseen
from evertune.monitoring import wording as drift_words
from evertune.objectives import cells, module
from evertune.records import Monitoring
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.statistics import two_sample as drift
from evertune.statistics.two_sample import Rows

if TYPE_CHECKING:
    import pyarrow as pa

BESIDE = 400  # test rows of a side that a run looks at, beside what it has to do


@dataclass(frozen=True)
class Side:
    """Rows that are compared.

    Args:
        source: where they come from, for a person.
        targets: what the model should say; None where nobody knows.
        groups, kinds: (rows,) see `drift.Rows`; None where each row stands alone, and all are of one kind.
        left_out: rows that stand in or near those that the champion knows, or are versions of them.
    """

    source: str
    inputs: Sequence[Any]
    targets: Sequence[Any] | None
    groups: Any = None
    kinds: Any = None
    left_out: int = 0

    def take(self, chosen: Any) -> "Side":
        """The rows (rows,) that are chosen; the others are not counted as left out."""
        places = np.flatnonzero(chosen).tolist()
        inputs, targets = ([one[at] for at in places] if one is not None else None
                           for one in (self.inputs, self.targets))  # fmt: skip
        groups, kinds = (None if one is None else np.asarray(one)[places] for one in (self.groups, self.kinds))
        return replace(self, inputs=inputs or [], targets=targets, groups=groups, kinds=kinds)


@dataclass(frozen=True)
class Look:
    """What the champion sees on both sides; none where there are too few rows."""

    found: Monitoring
    reference: Rows | None = None
    current: Rows | None = None


def since(recipe: Recipe, home: Home, champion: Path) -> tuple[Side, Side]:
    """The champion's own test rows, and those of the corpus that came since: it has learned of neither."""
    known, every = _known(home, champion)
    batch = int(bundle.card(champion)["snapshot"]["batch"])
    rows = relabel.rows(corpus.rows(home, corpus.newest_version(home), since=batch), recipe)
    rows = _with_components(rows, every)
    tested, fresh = unseen.sides(known, rows)
    now = _side(recipe, rows, "the rows that came since the champion was trained", fresh.recurs)
    return _reference(recipe, home, champion, known, tested), _new(now, fresh.kept)


def of_file(
    recipe: Recipe, home: Home, champion: Path, path: str, encoding: str | None = None
) -> tuple[Side, Side]:  # fmt: skip
    """The champion's own test rows, and those of a file, which are linked with the corpus as an ingest would.

    Raises:
        DataError: the file cannot be read, or has no row with an input.
    """
    known, every = _known(home, champion)
    table, inputs, targets = read(recipe, path, encoding)
    rows = _linked(recipe, home, table, every)
    tested, fresh = unseen.sides(known, rows)
    now = Side(path, inputs, targets, rows["component"].to_numpy(), fresh.recurs)
    return _reference(recipe, home, champion, known, tested), _new(now, fresh.kept)


def _known(home: Home, champion: Path) -> "tuple[pa.Table, pa.Table]":
    """Every version of the rows that the champion's snapshot had, and of all rows; with the components of today."""
    import pyarrow.compute as pc

    names = ["row_version", *unseen.COLUMNS, "joins", "batch"]
    every = corpus.history(home, names)
    every = every.set_column(names.index("component"), "component", [canonical(every)])
    return every.filter(pc.less_equal(every["batch"], int(bundle.card(champion)["snapshot"]["batch"]))), every


def _reference(recipe: Recipe, home: Home, champion: Path, known: "pa.Table", tested: unseen.Unseen) -> Side:
    version = int(bundle.card(champion)["snapshot"]["version"])
    rows = _with_components(relabel.rows(corpus.rows(home, version), recipe), known)
    kept, recurs = (_of(rows, known, values) for values in (tested.kept, tested.recurs))
    return _side(recipe, rows, f"the champion's test rows, snapshot {version}", recurs).take(kept)


def _with_components(rows: "pa.Table", every: "pa.Table") -> "pa.Table":
    """The rows with today's components; those that were forgotten since are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = rows.filter(pc.is_in(rows["row_version"], value_set=every["row_version"]))
    if "component" in rows.column_names:
        rows = rows.drop_columns("component")
    return rows.append_column("component", pa.array(_of(rows, every, every["component"]), pa.int64()))


def _of(rows: "pa.Table", every: "pa.Table", values: Any) -> Any:
    """What stands in a column beside `every`, of each of the rows."""
    import pyarrow.compute as pc

    places = pc.index_in(rows["row_version"], value_set=every["row_version"].combine_chunks()).to_numpy()
    return np.asarray(values)[places]


def _new(side: Side, kept: Any) -> Side:
    return replace(side.take(kept), left_out=int((~kept).sum()))


def _linked(recipe: Recipe, home: Home, rows: "pa.Table", every: "pa.Table") -> "pa.Table":
    """Rows of a file with the split and the component that they would have; the corpus stays as it is."""
    import pyarrow as pa

    role = module(recipe.objective.type).INPUTS[0]
    signed = splits.signed(rows, role)
    with tempfile.TemporaryDirectory() as scratch:
        dealt = splits.dealt(
            of_table(signed), corpus.known_rows(home), recipe.data.split, role, corpus.inputs(home, role), Path(scratch)
        )
    beside = pa.concat_tables([table.select(["component", "joins"]) for table in (dealt, every)])
    component = pa.array(canonical(beside)[: len(rows)])
    own = {name: rows[name] for name in ("row_key", "group")}
    return pa.table({**own, "split": dealt["split"], "component": component})


def came_since(recipe: Recipe, home: Home, champion: Path) -> int:
    """How many rows of the corpus came, or got another label, since the champion was trained."""
    batch = int(bundle.card(champion)["snapshot"]["batch"])
    rows = corpus.rows(home, corpus.newest_version(home), ["row_version", "row_key", "batch"], since=batch)
    return int((corpus.first_batches(home, rows, recipe) > batch).sum())


def read(
    recipe: Recipe, path: str, encoding: str | None = None
) -> "tuple[pa.Table, list[Any], list[Any] | None]":  # fmt: skip
    """The rows of a file with an input: what links them with others, their inputs, and their labels if each has one.

    Raises:
        DataError: the file cannot be read, or has no row with an input.
    """
    import pyarrow as pa

    objective = module(recipe.objective.type)
    column, role = recipe.column(objective.TARGET), objective.INPUTS[0]
    inputs, targets, labelled, tables = list[Any](), list[Any](), bool(objective.LABELED), list[Any]()
    for chunk in sources.inputs(path, recipe, encoding):
        good = [place for place, value in enumerate(chunk.values) if value and chunk.problems[place] is None]
        inputs += [chunk.values[place] for place in good]
        table = chunk.table.take(pa.array(good, pa.int64()))
        group = recipe.data.columns.get("group")
        groups = present(table[group].cast("string")) if group in table.column_names else pa.nulls(len(good), "string")
        tables.append(pa.table({role: table[recipe.column(role)], "group": groups}))
        labelled = labelled and column in table.column_names
        targets += _labels(table[column].to_pylist(), objective) if labelled else []
    if not inputs:
        raise DataError(f"{path}: no row has {recipe.column(role)}; there is nothing to look at")
    kind = objective.COLUMNS[objective.TARGET]
    whole = labelled and all(one or (one == [] and kind == "labels") for one in targets)  # a set may be empty
    names = pa.array([f"row {number} of the file" for number in range(len(inputs))])
    rows = pa.concat_tables(tables).append_column("row_version", names).append_column("row_key", names)
    rows = rows.append_column("given_split", pa.nulls(len(rows), "string"))
    return rows, inputs, _named(recipe, targets) if whole else None


def _labels(given: list[Any], objective: ModuleType) -> list[Any]:
    """Targets as a source gives them: a file has lists in a form of its own; None for what cannot be read."""
    convert, found = converter(objective.COLUMNS[objective.TARGET], None), list[Any]()
    for cell in given:
        try:
            found.append(convert(cell))
        except ValueError:
            found.append(None)
    return found


def of_run(recipe: Recipe, champion: Path, version: int, rows: "pa.Table", since: int) -> Monitoring | None:
    """How the test rows that came since the champion differ from those before them; None where either are too few.

    Args:
        rows: test rows as the run has them; since: newest batch that the champion knew.
    """
    came = rows["batch"].to_numpy() > since
    sides = [rows.filter(~came), rows.filter(came)]
    if min(map(len, sides)) < recipe.monitor.min_rows:
        return None
    words = ("the test rows that the champion knew of", "the test rows that came since")
    before, now = (_side(recipe, _drawn(side, recipe), name) for side, name in zip(sides, words, strict=True))
    return look(recipe, champion, version, before, now).found


def _drawn(rows: "pa.Table", recipe: Recipe) -> "pa.Table":
    if len(rows) <= BESIDE:
        return rows
    return rows.take(np.sort(np.random.default_rng(recipe.training.seed).choice(len(rows), BESIDE, replace=False)))


def look(recipe: Recipe, champion: Path, version: int, before: Side, now: Side) -> Look:
    """Compare both sides with the champion's eyes."""
    rules, sizes = recipe.monitor, {"reference": len(before.inputs), "current": len(now.inputs)}
    if min(sizes.values()) < rules.min_rows:
        words = f"{sizes['current']} rows beside {sizes['reference']} test rows, needs {rules.min_rows} on either side"
        few = Monitoring(recipe.registered_name, version, False, words, None, rules.level, sizes, now.source)
        return Look(replace(few, left_out=now.left_out))
    predictor = bundle.predictor(champion)
    with_labels = now.targets is not None
    seen = [
        observing.observed(
            predictor, recipe, side.inputs, side.targets if with_labels else None, side.groups, side.kinds
        )
        for side in (before, now)
    ]
    said = drift.compare(seen[0], seen[1], recipe.training.seed, drift.enough(rules.level))
    told = {one.test: drift_words.words(one, seen[0], seen[1], predictor) for one in said.findings}
    findings = tuple(
        {**asdict(one), "found": one.adjusted <= rules.level, "words": told[one.test]} for one in said.findings
    )
    drifted = said.p <= rules.level
    reason = drift_words.reason(findings, said.p, rules.level, drifted)
    found = Monitoring(
        recipe.registered_name, version, drifted, reason, said.p, rules.level,
        dict(zip(sizes, said.rows, strict=True)), now.source, findings, left_out=now.left_out,
    )  # fmt: skip
    return Look(found, seen[0], seen[1])


def _side(recipe: Recipe, rows: "pa.Table", source: str, kinds: Any = None) -> Side:
    objective = module(recipe.objective.type)
    targets = cells(rows, [objective.TARGET]) if objective.LABELED else None
    return Side(source, cells(rows, objective.INPUTS), targets, rows["component"].to_numpy(), kinds)


def _named(recipe: Recipe, targets: list[Any]) -> list[Any]:
    import pyarrow as pa

    renamed = recipe.contract.label.rename
    return relabel.values(pa.array(targets), renamed).to_pylist() if renamed else targets
