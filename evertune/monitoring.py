"""Are the rows that come still those that the champion was tested on? The rows of both sides, the tests, the words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evertune import bundle, corpus, drift, observing, relabel, sources
from evertune.config import Recipe
from evertune.drift import Rows
from evertune.errors import DataError
from evertune.home import Home
from evertune.objectives import LISTS, cells, module
from evertune.records import Monitoring

if TYPE_CHECKING:
    import pyarrow as pa

BESIDE = 400  # test rows of a side that a run looks at, beside what it has to do
SHOWN = 5  # labels or words that a sentence names


@dataclass(frozen=True)
class Side:
    """Rows that are compared.

    Args:
        source: where they come from, for a person.
        targets: what the model should say; None where nobody knows.
        groups: (rows,) see `drift.Rows`; None where each row stands alone.
    """

    source: str
    inputs: Sequence[Any]
    targets: Sequence[Any] | None
    groups: Any = None


@dataclass(frozen=True)
class Look:
    """What the champion sees on both sides; none where there are too few rows."""

    found: Monitoring
    reference: Rows | None = None
    current: Rows | None = None


def reference(recipe: Recipe, home: Home, champion: Path) -> Side:
    """The champion's own test rows: it was not trained on them, as it was not on those that come."""
    known = bundle.card(champion)["snapshot"]
    rows = _rows(recipe, home, int(known["version"]))
    rows = rows.filter([split == "test" for split in rows["split"].to_pylist()])
    return _side(recipe, rows, f"the champion's test rows, snapshot {known['version']}")


def since(recipe: Recipe, home: Home, champion: Path) -> Side:
    """The rows of the corpus that came since the champion was trained."""
    batch = int(bundle.card(champion)["snapshot"]["batch"])
    rows = _rows(recipe, home, corpus.newest_version(home))
    rows = rows.filter([number > batch for number in rows["batch"].to_pylist()])
    return _side(recipe, rows, "the rows that came since the champion was trained")


def came_since(home: Home, champion: Path) -> int:
    """How many rows of the corpus came, or got another label, since the champion was trained."""
    batch = int(bundle.card(champion)["snapshot"]["batch"])
    rows = corpus.rows(home, corpus.newest_version(home), ["row_version", "row_key", "batch"], since=batch)
    return int((corpus.first_batches(home, rows) > batch).sum())


def of_file(recipe: Recipe, path: str, encoding: str | None = None) -> Side:
    """The rows of a file; with the label column they tell of performance too.

    Raises:
        DataError: the file cannot be read, or has no row with an input.
    """
    objective = module(recipe.objective.type)
    column = recipe.column(objective.TARGET)
    inputs, targets, labelled = list[Any](), list[Any](), bool(objective.LABELED)
    for chunk in sources.inputs(path, recipe, encoding):
        good = [place for place, value in enumerate(chunk.values) if value and chunk.problems[place] is None]
        inputs += [chunk.values[place] for place in good]
        labelled = labelled and column in chunk.table.column_names
        if labelled:
            values = chunk.table[column].to_pylist()
            targets += [values[place] for place in good]
    if not inputs:
        raise DataError(f"{path}: no row has {recipe.column(objective.INPUTS[0])}; there is nothing to look at")
    listed = objective.COLUMNS[objective.TARGET] in LISTS
    whole = labelled and all(isinstance(one, list if listed else str) and one for one in targets)
    return Side(path, inputs, _named(recipe, targets) if whole else None)


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
        return Look(Monitoring(recipe.registered_name, version, False, words, None, rules.level, sizes, now.source))
    predictor = bundle.predictor(champion)
    with_labels = now.targets is not None
    seen = [
        observing.observed(predictor, recipe, side.inputs, side.targets if with_labels else None, groups)
        for side, groups in zip((before, now), _groups(before, now), strict=True)
    ]
    said = drift.compare(seen[0], seen[1], recipe.training.seed, drift.enough(rules.level))
    told = {one.test: _words(one.test, seen[0], seen[1], predictor) for one in said.findings}
    findings = tuple(
        {**asdict(one), "found": one.adjusted <= rules.level, "words": told[one.test]} for one in said.findings
    )
    drifted = said.p <= rules.level
    found = Monitoring(
        recipe.registered_name, version, drifted, _reason(findings, said.p, rules.level, drifted), said.p, rules.level,
        dict(zip(sizes, said.rows, strict=True)), now.source, findings,
    )  # fmt: skip
    return Look(found, seen[0], seen[1])


def _groups(before: Side, now: Side) -> tuple[Any, Any]:
    """Groups of both sides: rows of a file stand alone, with numbers that no row of the corpus has."""
    if before.groups is None or now.groups is not None:
        return before.groups, now.groups
    return before.groups, np.arange(len(now.inputs)) + int(before.groups.max()) + 1


def _rows(recipe: Recipe, home: Home, version: int) -> "pa.Table":
    return relabel.rows(corpus.rows(home, version), recipe)


def _side(recipe: Recipe, rows: "pa.Table", source: str) -> Side:
    objective = module(recipe.objective.type)
    targets = cells(rows, [objective.TARGET]) if objective.LABELED else None
    return Side(source, cells(rows, objective.INPUTS), targets, rows["component"].to_numpy())


def _named(recipe: Recipe, targets: list[Any]) -> list[Any]:
    import pyarrow as pa

    renamed = recipe.contract.label.rename
    return relabel.values(pa.array(targets), renamed).to_pylist() if renamed else targets


def _reason(findings: Sequence[dict[str, Any]], p: float, level: float, drifted: bool) -> str:
    if not drifted:
        return f"p = {p:.2g}, {level:.2g} or less would tell of drift"
    told = [f"{one['test']} ({one['words']})" for one in sorted(findings, key=lambda one: one["p"]) if one["found"]]
    return f"p = {p:.2g}: {'; '.join(told)}"


def _words(test: str, before: Rows, now: Rows, predictor: Any) -> str:
    """What changed, in words."""
    if test == "length":
        return _means(before.lengths, now.lengths, "{:.1f} tokens in the mean, {:.1f} now")
    if test == "confidence":
        return _means(before.scores, now.scores, "{:.3f} in the mean, {:.3f} now")
    if test == "performance":
        return _means(1 - np.asarray(before.wrong), 1 - np.asarray(now.wrong), "{:.1%} of the rows right, {:.1%} now")
    if test == "prediction":
        return _most(*(_shares([[label] for label in side.predicted.tolist()]) for side in (before, now)))  # type: ignore[union-attr]
    if test == "language":
        return _came(*(_shares([[one] for one in side.languages.tolist()]) for side in (before, now)))  # type: ignore[union-attr]
    if test == "vocabulary":
        sides = (_shares([np.unique(row).tolist() for row in side.tokens or []]) for side in (before, now))
        return _most(*({predictor.tokenizer.decode([one]).strip(): share for one, share in side.items()}
                       for side in sides))  # fmt: skip
    return "the texts mean other things"


def _means(before: Any, now: Any, words: str) -> str:
    return words.format(float(np.mean(before)), float(np.mean(now)))


def _shares(rows: Sequence[Sequence[Any]]) -> dict[Any, float]:
    """The share of rows that have each value."""
    counts: dict[Any, int] = {}
    for row in rows:
        for value in row:
            counts[value] = counts.get(value, 0) + 1
    return {value: count / len(rows) for value, count in counts.items()}


def _came(before: dict[Any, float], now: dict[Any, float]) -> str:
    """The values whose shares have grown most."""
    grown = sorted(now, key=lambda value: (before.get(value, 0.0) - now[value], str(value)))[:2]
    return ", ".join(f"{value!r} {before.get(value, 0):.1%} to {now[value]:.1%}" for value in grown)


def _most(before: dict[Any, float], now: dict[Any, float]) -> str:
    """The values whose shares changed most."""
    change = {value: now.get(value, 0.0) - before.get(value, 0.0) for value in {*before, *now}}
    top = sorted(change, key=lambda value: (-abs(change[value]), str(value)))[:SHOWN]
    return ", ".join(f"{value!r} {before.get(value, 0):.0%} to {now.get(value, 0):.0%}" for value in top)
