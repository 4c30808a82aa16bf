"""Train a registered version again from its record, in a scratch home, and compare it with the registered one."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from evertune import training
from evertune.audit.forgetting import forget
from evertune.compression import variants
from evertune.config import Recipe
from evertune.data import label_names
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import DataError, RegistryError
from evertune.evaluation import evaluate
from evertune.models import base as base_models
from evertune.models import teachers
from evertune.records import Candidate, Evaluation, Snapshot, Tokens, compute_digest, file_digest
from evertune.registry.decisions import ledger
from evertune.registry.tracking import runs
from evertune.registry.tracking.runs import Environment
from evertune.registry.versions import lineage, versions
from evertune.registry.versions.versions import VersionFacts
from evertune.runs import readiness_facts
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json, write_json
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.serving.portable import compressed
from evertune.tokenization import tokenize

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

Verdict = Literal["identical", "same", "different"]
TOLERANCE = 0.01  # largest difference of a metric between models that differ by rounding only
RESAMPLES = 200  # few, since the intervals are not used here
WAIT = 5.0  # seconds to wait for another reproduction
WEIGHTS = (".safetensors", ".onnx")  # files of a bundle's model that hold weights
TINY = 1e-45  # reported for weights that are equal but not bit for bit, such as 0.0 and -0.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a version, trained again, with the registered one.

    Args:
        verdict: `identical` bit for bit, `same` within `tolerance`, or `different`.
        weights: largest difference of a weight; None where weights cannot be compared: other shapes, or a graph.
        metrics, registered: metrics of the new and the registered model, on the same test rows of today.
        rows: number of rows in the snapshot now, by split.
        lost: number of its rows that are gone, by split.
        forgotten: number of those that `evertune forget` removed, by split.
        environment: what has changed since, as `{name: [then, now]}`.
        missing: what is missing from the record, or has changed, in words.
        seconds: of the training.
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
    environment: dict[str, list[object]]
    missing: tuple[str, ...]
    seconds: float


def reproduce_version(context: RunContext, version: int) -> Reproduction:
    """Train the version again, as recorded, and compare; the next call continues one that was killed.

    Nothing changes in MLflow, the aliases or the ledger; the verdict is kept for the readiness of later versions.

    Raises:
        RegistryError: there is no such version, its files or those it started from are gone, it has no recipe on
            record, or another process is reproducing a version of this model.
        DataError: its snapshot cannot be read.
        EvertuneError: the training failed.
    """
    with context.home.lock("reproduce", timeout=WAIT, noted=True):
        reproduction = _reproduce_locked(context, version)
        readiness_facts.record_reproduction(context.home, version, reproduction.verdict)
        return reproduction


def _reproduce_locked(context: RunContext, version: int) -> Reproduction:
    name = context.recipe.registered_name
    record = _read_record(context.home, name, version)
    past_recipe = _read_recipe(record, name, version)
    registered = versions.fetch_bundle(context.home, name, version)
    variant = variants.read_compression(registered)
    if variant is not None:  # a compressed variant: train its original again, and compress that
        record = _read_record(context.home, name, lineage.find_original(context.home, name, version, variant))
        past_recipe = _read_recipe(record, name, version)
    scratch_home = Home(
        context.home.model / "reproduced" / f"{version}-{compute_digest(record)[:8]}", context.recipe.name
    )
    _set_threads(record["environment"])
    snapshot, rows = _load_snapshot(past_recipe, context.home, record, registered)
    lost_rows, forgotten_rows = _count_lost(context.home, record, snapshot)
    champion, missing = _find_champion(past_recipe, context.home, record)
    teacher, teacher_issues = _find_teacher(past_recipe, context.home, record)
    missing = (*_check_base_model(past_recipe, record), *missing, *teacher_issues)
    _copy_measurements(context.home, scratch_home)
    candidate = _train_again(past_recipe, scratch_home, snapshot, rows, champion, teacher, version)
    if variant is not None:
        folder = scratch_home.runs / "variant"
        variants.write_variant(Path(candidate.bundle), folder, variant["method"], variant.get("sparsity", 0.0))
        candidate = replace(candidate, bundle=str(folder))
    report = _score_both(past_recipe, candidate, rows, registered, version)
    weights = compare_weights(Path(candidate.bundle), registered)
    metrics = report.metrics["test"]
    registered_metrics = report.champion_metrics["test"]
    shutil.rmtree(scratch_home.root)
    changes = _compare_environments(record["environment"], runs.describe_environment())
    return Reproduction(
        name,
        version,
        _judge_difference(weights, metrics, registered_metrics),
        weights,
        TOLERANCE,
        metrics,
        registered_metrics,
        snapshot.rows,
        lost_rows,
        forgotten_rows,
        changes,
        missing,
        candidate.seconds,
    )


def _read_record(home: Home, name: str, version: int) -> VersionFacts:
    facts = versions.describe_version(home, name, version)
    return {**facts, "model": {**facts["model"], "name": name, "version": version}}


def _read_recipe(record: VersionFacts, name: str, version: int) -> Recipe:
    """Return the recipe as it was logged; a field that this Evertune does not know is an error."""
    from pydantic import ValidationError

    if record["model"]["snapshot"] is None or record["model"]["bundle"] is None:
        raise RegistryError(f"version {version} of {name}: {versions.OUTSIDE}; it cannot be reproduced")
    if not record["recipe"]:
        raise RegistryError(f"version {version} of {name} has no recipe on record; it cannot be reproduced")
    try:
        return Recipe.model_validate(record["recipe"])
    except ValidationError as error:
        raise RegistryError(
            f"version {version} of {name}: this Evertune cannot read the recorded recipe "
            f"({error.errors()[0]['msg']}); use the Evertune that `evertune trace` shows for it"
        ) from error


def _set_threads(environment: Environment) -> None:
    """Use as many threads as then, since rounding depends on how sums are split."""
    import torch

    threads = environment.get("threads")
    if threads:
        torch.set_num_threads(min(int(threads), 4 * (os.cpu_count() or 1)))


def _load_snapshot(
    past_recipe: Recipe, home: Home, record: VersionFacts, registered: Path
) -> tuple[Snapshot, "pa.Table"]:
    """Return the snapshot and its remaining rows, with labels in the order of the registered model's outputs."""
    version = int(cast(str, record["model"]["snapshot"]))  # `_read_recipe` has checked that
    facts = bundle.read_card(registered)["snapshot"]
    rows = corpus.read_rows(home, version)
    _, sizes = corpus.fingerprint_contents(home, version)
    labels = tuple(bundle.read_labels(registered))
    fingerprint = compute_digest(record["model"]["fingerprint"], sizes)
    snapshot = Snapshot(version, fingerprint, sizes, labels, int(facts["batch"]))
    return snapshot, label_names.rename_rows(rows, past_recipe)


def _count_lost(home: Home, record: VersionFacts, snapshot: Snapshot) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many rows of the snapshot are gone, and how many of them were forgotten, by split."""
    gone_rows = {split: count - snapshot.rows.get(split, 0) for split, count in record["run"]["rows"].items()}
    forgotten = forget.count_lost_rows(home, snapshot.version, snapshot.batch)
    return {split: count for split, count in gone_rows.items() if count}, forgotten


def _find_champion(past_recipe: Recipe, home: Home, record: VersionFacts) -> tuple[Path | None, tuple[str, ...]]:
    """Return the champion's bundle that the training built on, if any, and what is missing from the record of it."""
    fresh = past_recipe.data.fresh
    if (fresh.start_from, fresh.train_on) == ("base", "all"):
        return None, ()
    version = record["model"]["version"]
    start = record["model"]["start"]
    if start is not None:  # recorded, since the champion may have moved before the decision
        return versions.fetch_bundle(home, record["model"]["name"], int(start)), ()
    decisions = [
        entry for entry in ledger.read_entries(home) if entry["event"] == "decision" and entry["version"] == version
    ]
    if not decisions:
        return None, ("the ledger has no decision on it, so it is assumed that there was no champion before it",)
    opponent = decisions[0]["champion"]
    if opponent is None:
        return None, ()
    return versions.fetch_bundle(home, record["model"]["name"], int(opponent)), ()


def _find_teacher(past_recipe: Recipe, home: Home, record: VersionFacts) -> tuple[Path | None, tuple[str, ...]]:
    """Return the teacher of the training, if any, and what has changed about it.

    Raises:
        RegistryError: it is one of the recipe's own versions, and is not on record or its files are missing.
        ConfigError: it is another model, and is missing.
    """
    model = record["model"]
    recorded_digest, number, model_name = model["teacher"], model["teacher_version"], model["name"]
    named_version = teachers.registered_teacher(past_recipe)
    if past_recipe.training.distill is None:
        return None, ()
    if named_version is None:
        current_digest = teachers.fingerprint_teacher(past_recipe)
        issue = f"the teacher {past_recipe.training.distill.teacher} has changed since the training"
        issues = () if recorded_digest in {current_digest, None} else (issue,)
        return teachers.locate_teacher(past_recipe), issues
    if named_version.isdecimal():
        number = named_version
    if number is None:
        raise RegistryError(
            f"version {record['model']['version']} of {model_name} was distilled from the champion of its time, and "
            "there is no record of which version that was; it cannot be reproduced"
        )
    try:
        return versions.fetch_bundle(home, model_name, int(number)), ()
    except RegistryError as error:
        raise RegistryError(f"its teacher is needed to reproduce it: {error}") from None


def _check_base_model(past_recipe: Recipe, record: VersionFacts) -> tuple[str, ...]:
    recorded = record["environment"].get("base_model")
    current = base_models.fingerprint_base(past_recipe)
    if recorded is None:
        return ("the base model's digest is not on record, so it is assumed to be unchanged",)
    return () if recorded == current else (f"the base model {past_recipe.base_model} has changed since the training",)


def _copy_measurements(home: Home, scratch_home: Home) -> None:
    """Copy this machine's measurements, which decide the precision `auto`, into the scratch home."""
    scratch_home.root.mkdir(parents=True, exist_ok=True)
    measured = read_json(home.root / "machine.json")
    if measured is not None and not (scratch_home.root / "machine.json").exists():
        write_json(scratch_home.root / "machine.json", measured)


def _train_again(
    past_recipe: Recipe,
    scratch_home: Home,
    snapshot: Snapshot,
    rows: "pa.Table",
    champion: Path | None,
    teacher: Path | None,
    version: int,
) -> Candidate:
    tokens: Tokens = tokenize.tokenize_rows(RunContext(past_recipe, scratch_home), snapshot, rows)
    rows = splits.exclude_leaked_rows(rows, past_recipe.data.split)
    folder = scratch_home.runs / "again"
    folder.mkdir(parents=True, exist_ok=True)
    since = bundle.read_card(champion)["snapshot"]["batch"] if champion else 0

    def log_metrics(metrics: Mapping[str, float], step: int) -> None:
        logger.debug("step %d: %s", step, metrics)

    return training.finetune_model(
        RunContext(past_recipe, scratch_home),
        tokens,
        tokenize.load_tokens(tokens, rows),
        rows,
        run_id=f"reproduction of version {version}",
        folder=folder,
        log=log_metrics,
        champion=champion,
        since=since,
        teacher=teacher,
    )


def _score_both(
    past_recipe: Recipe, candidate: Candidate, rows: "pa.Table", registered: Path, version: int
) -> Evaluation:
    """Score both models on today's test rows.

    Raises:
        DataError: no test row is left.
        RegistryError: the registered model cannot be read.
    """
    test = rows.filter([split == "test" for split in rows["split"].to_pylist()])
    if not len(test):
        raise DataError(f"version {version} has no test rows left to compare the models on")
    quick_recipe = past_recipe.model_copy(
        update={"evaluation": past_recipe.evaluation.model_copy(update={"bootstrap": RESAMPLES})}
    )
    report = evaluate.evaluate_models(quick_recipe, candidate, test, set(), registered, version)
    if report.problem is not None:
        raise RegistryError(report.problem)
    return report


def compare_weights(first: Path, second: Path) -> float | None:
    """Return the largest difference of a weight between two bundles; 0.0 only if every bit is the same.

    None where weights cannot be compared: the models have other shapes, or are graphs.
    """
    first_files, second_files = _list_weight_files(first), _list_weight_files(second)
    if _compute_digests(first_files) == _compute_digests(second_files):
        return 0.0
    first_weights, second_weights = _load_weights(first_files), _load_weights(second_files)
    if not first_weights or _read_shapes(first_weights) != _read_shapes(second_weights):
        return None
    differences = (
        float((first_weights[name].float() - second_weights[name].float()).abs().max()) for name in first_weights
    )
    return max(differences) or TINY


def _list_weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "model").iterdir() if path.suffix in WEIGHTS)


def _compute_digests(paths: Sequence[Path]) -> list[tuple[str, str]]:
    return [(path.name, file_digest(path)) for path in paths]


def _read_shapes(weights: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Size]":
    return {name: tensor.shape for name, tensor in weights.items()}


def _load_weights(files: Sequence[Path]) -> "dict[str, torch.Tensor]":
    """Return every tensor of a model, from all its files; packed tensors are unpacked."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
            tensors |= compressed.unpack_weights(loaded) if path.name == compressed.PACKED else loaded
    return tensors


def _judge_difference(
    weights: float | None, metrics: Mapping[str, float], registered_metrics: Mapping[str, float]
) -> Verdict:
    if weights == 0.0:
        return "identical"
    is_close = all(_are_close(value, registered_metrics.get(name)) for name, value in metrics.items())
    return "same" if is_close else "different"


def _are_close(first: float | None, second: float | None) -> bool:
    return first == second or (first is not None and second is not None and abs(first - second) <= TOLERANCE)


def _compare_environments(then: Environment, now: Environment) -> dict[str, list[object]]:
    """Return what has changed, as `{name: [then, now]}`; a value that was not recorded then is None."""
    past = _flatten_environment(then)
    present = _flatten_environment(now)
    return {name: [past.get(name), value] for name, value in present.items() if past.get(name) != value}


def _flatten_environment(environment: Environment) -> dict[str, object]:
    """Return the facts and the library versions of an environment in one dictionary."""
    facts = {name: value for name, value in environment.items() if name not in {"libraries", "base_model"}}
    return {**facts, **environment.get("libraries", {})}
