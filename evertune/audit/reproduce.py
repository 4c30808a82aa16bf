"""A registered version, trained again from its record in a place apart, and compared with what was registered."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evertune import training
from evertune.audit.forgetting import forget as forgetting
from evertune.audit.weights import difference
from evertune.compression import variants
from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import DataError, RegistryError
from evertune.evaluation import evaluate as evaluation
from evertune.models import base as base_models
from evertune.models import teachers
from evertune.records import Candidate, Snapshot, Tokens, digest
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs as tracking
from evertune.registry.versions import lineage
from evertune.registry.versions import versions as models
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.tokenization import tokenize as tokenization

if TYPE_CHECKING:
    import pyarrow as pa

Verdict = Literal["identical", "same", "different"]
TOLERANCE = 0.01  # difference of a metric up to which two models are the same, where rounding may differ
RESAMPLES = 200  # behind intervals that nobody looks at here
WAIT = 5.0  # seconds for another reproduction
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reproduction:
    """How a version that was trained again compares with the registered one.

    Args:
        verdict: `identical` bit for bit, `same` within `tolerance`, or `different`.
        weights: largest difference of a weight; None where they cannot be compared: other shapes, or a graph.
        metrics, registered: of the new and the registered model, on the same test rows of today.
        rows: of the snapshot now; lost: of it gone, by split; forgotten: of these, by `evertune forget`.
        environment: what is not as it was, `{name: [then, now]}`.
        missing: what of the record is gone or changed, in words.
    """

    model: str
    version: int
    verdict: Verdict
    weights: float | None
    tolerance: float
    metrics: dict[str, float]
    registered: dict[str, float]
    rows: dict[str, int]
    lost: dict[str, int]
    forgotten: dict[str, int]
    environment: dict[str, list[Any]]
    missing: tuple[str, ...]
    seconds: float


def reproduce(recipe: Recipe, home: Home, version: int) -> Reproduction:
    """Train the version again, as its record says, and compare; a call that was killed is gone on with by the next.

    Neither MLflow, nor an alias, nor the ledger is touched.

    Raises:
        RegistryError: there is no such version, its files or its start's are gone, it has no recipe on record, or
            another process reproduces a version of this model.
        DataError: its snapshot cannot be read.
        EvertuneError: the training fails.
    """
    with home.lock("reproduce", timeout=WAIT, noted=True):
        return _reproduced(recipe, home, version)


def _reproduced(recipe: Recipe, home: Home, version: int) -> Reproduction:
    name = recipe.registered_name
    known = _known(home, name, version)
    past = _recipe(known, name, version)
    registered = models.bundle_of(home, name, version)
    variant = variants.told(registered)
    if variant is not None:  # it was made of a version that was trained: that is trained again, and the variant made
        known = _known(home, name, lineage.original(home, name, version, variant))
        past = _recipe(known, name, version)
    apart = Home(home.model / "reproduced" / f"{version}-{digest(known)[:8]}", recipe.name)
    _threads(known["environment"])
    snapshot, rows = _snapshot(past, home, known, registered)
    lost, forgotten = _lost(home, known, snapshot)
    champion, missing = _champion(past, home, known)
    teacher, odd = _teacher(past, home, known)
    missing = (*_changed_base(past, known), *missing, *odd)
    _lend(home, apart)
    made = _trained(past, apart, snapshot, rows, champion, teacher, version)
    if variant is not None:
        place = apart.runs / "variant"
        variants.write(Path(made.bundle), place, variant["method"], variant.get("sparsity", 0.0))
        made = replace(made, bundle=str(place))
    report = _scored(past, made, rows, registered, version)
    weights = difference(Path(made.bundle), registered)
    ours, theirs = report.metrics["test"], report.champion_metrics["test"]
    shutil.rmtree(apart.root)
    differing = _differing(known["environment"], tracking.environment())
    return Reproduction(
        name, version, _verdict(weights, ours, theirs), weights, TOLERANCE, ours, theirs, snapshot.rows, lost,
        forgotten, differing, missing, made.seconds,
    )  # fmt: skip


def _known(home: Home, name: str, version: int) -> dict[str, Any]:
    facts = models.facts(home, name, version)
    return {**facts, "model": {**facts["model"], "name": name, "version": version}}


def _recipe(known: dict[str, Any], name: str, version: int) -> Recipe:
    """The recipe as it was logged then; a field that is no longer known is an error, not a guess."""
    from pydantic import ValidationError

    if known["model"]["snapshot"] is None or known["model"]["bundle"] is None:
        raise RegistryError(f"version {version} of {name}: {models.OUTSIDE}; it cannot be reproduced")
    if not known["recipe"]:
        raise RegistryError(f"version {version} of {name} has no recipe on record; it cannot be reproduced")
    try:
        return Recipe.model_validate(known["recipe"])
    except ValidationError as error:
        raise RegistryError(
            f"version {version} of {name}: this Evertune does not read the recipe of then "
            f"({error.errors()[0]['msg']}); use the Evertune of its record, which `evertune trace` names"
        ) from error


def _threads(environment: Mapping[str, Any]) -> None:
    """As many threads as then: sums are rounded by how they are split."""
    import torch

    if threads := environment.get("threads"):
        torch.set_num_threads(min(int(threads), 4 * (os.cpu_count() or 1)))


def _snapshot(past: Recipe, home: Home, known: dict[str, Any], registered: Path) -> tuple[Snapshot, "pa.Table"]:
    """The corpus at the version, what is left of it, with the labels in the order of the registered model's outputs."""
    version, facts = int(known["model"]["snapshot"]), bundle.card(registered)["snapshot"]
    rows = corpus.rows(home, version)
    _, sizes = corpus.contents(home, version)
    labels = tuple(bundle.labels(registered))
    fingerprint = digest(known["model"]["fingerprint"], sizes)
    return Snapshot(version, fingerprint, sizes, labels, int(facts["batch"])), relabel.rows(rows, past)


def _lost(home: Home, known: dict[str, Any], snapshot: Snapshot) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of the snapshot that are gone, and those of them that were forgotten, by split."""
    gone = {split: count - snapshot.rows.get(split, 0) for split, count in known["run"]["rows"].items()}
    forgotten = forgetting.lost(home, snapshot.version, snapshot.batch)
    return {split: count for split, count in gone.items() if count}, forgotten


def _champion(past: Recipe, home: Home, known: dict[str, Any]) -> tuple[Path | None, tuple[str, ...]]:
    """The bundle of the champion that the training began with, where it looked at that; and what is odd about it."""
    fresh = past.data.fresh
    if (fresh.start_from, fresh.train_on) == ("base", "all"):
        return None, ()
    version, start = known["model"]["version"], known["model"]["start"]
    if start is not None:  # somebody may have moved the champion before the decision
        return models.bundle_of(home, known["model"]["name"], int(start)), ()
    decided = [one for one in ledger.entries(home) if one["event"] == "decision" and one["version"] == version]
    if not decided:
        return None, ("the ledger has no decision on it: it is taken to have had no champion before it",)
    met = decided[0]["champion"]
    return (None if met is None else models.bundle_of(home, known["model"]["name"], int(met))), ()


def _teacher(past: Recipe, home: Home, known: dict[str, Any]) -> tuple[Path | None, tuple[str, ...]]:
    """The teacher of then, where there was one; and what is odd about it.

    Raises:
        RegistryError: it is one of the recipe's own versions, and not on record or not whole.
        ConfigError: it lies elsewhere, and is not there.
    """
    then, number, named = (known["model"][key] for key in ("teacher", "teacher_version", "name"))
    asked = teachers.registered(past)
    if past.training.distill is None:
        return None, ()
    if asked is None:
        there = teachers.fingerprint(past)
        odd = f"the teacher {past.training.distill.teacher} is not the one of then"
        return teachers.place(past), () if then in {there, None} else (odd,)
    if asked.isdecimal():
        number = asked
    if number is None:
        raise RegistryError(
            f"version {known['model']['version']} of {named} learned from the champion of then, and which that was is "
            "not on record; it cannot be reproduced"
        )
    try:
        return models.bundle_of(home, named, int(number)), ()
    except RegistryError as error:
        raise RegistryError(f"its teacher must be there to reproduce it: {error}") from None


def _changed_base(past: Recipe, known: dict[str, Any]) -> tuple[str, ...]:
    recorded, now = known["environment"].get("base_model"), base_models.fingerprint(past)
    if recorded is None:
        return ("the base model's digest is not on record: it is taken to be the one of then",)
    return () if recorded == now else (f"the base model {past.base_model} is not the one of then",)


def _lend(home: Home, apart: Home) -> None:
    """What was measured on this machine, by which precision `auto` is decided, is the same in both homes."""
    apart.root.mkdir(parents=True, exist_ok=True)
    measured = read_json(home.root / "machine.json")
    if measured is not None and not (apart.root / "machine.json").exists():
        write_json(apart.root / "machine.json", measured)


def _trained(
    past: Recipe, apart: Home, snapshot: Snapshot, rows: "pa.Table", champion: Path | None, teacher: Path | None,
    version: int,
) -> Candidate:  # fmt: skip
    tokens: Tokens = tokenization.tokenize(past, apart, snapshot, rows)
    rows = splits.apart(rows, past.data.split)
    folder = apart.runs / "again"
    folder.mkdir(parents=True, exist_ok=True)
    since = bundle.card(champion)["snapshot"]["batch"] if champion else 0

    def told(metrics: Mapping[str, float], step: int) -> None:
        logger.debug("step %d: %s", step, metrics)

    return training.finetune(
        past, apart, tokens, tokenization.load(tokens, rows), rows, run_id=f"reproduction of version {version}",
        folder=folder, log=told, champion=champion, since=since, teacher=teacher,
    )  # fmt: skip


def _scored(past: Recipe, made: Candidate, rows: "pa.Table", registered: Path, version: int) -> Any:
    """Both models on the test rows of today.

    Raises:
        DataError: no test row is left.
        RegistryError: the registered model cannot be read.
    """
    test = rows.filter([split == "test" for split in rows["split"].to_pylist()])
    if not len(test):
        raise DataError(f"no test row of version {version} is left to compare on")
    quick = past.model_copy(update={"evaluation": past.evaluation.model_copy(update={"bootstrap": RESAMPLES})})
    report = evaluation.evaluate(quick, made, test, set(), registered, version)
    if report.problem is not None:
        raise RegistryError(report.problem)
    return report


def _verdict(weights: float | None, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Verdict:
    if weights == 0.0:
        return "identical"
    close = all(_close(value, theirs.get(name)) for name, value in ours.items())
    return "same" if close else "different"


def _close(one: float | None, two: float | None) -> bool:
    return one == two or (one is not None and two is not None and abs(one - two) <= TOLERANCE)


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What is not as it was; names that then were not recorded are told as such."""
    flat = [{**{name: value for name, value in one.items() if name not in {"libraries", "base_model"}},
             **one.get("libraries", {})} for one in (then, now)]  # fmt: skip
    return {name: [flat[0].get(name), flat[1].get(name)] for name in flat[1] if flat[0].get(name) != flat[1].get(name)}
