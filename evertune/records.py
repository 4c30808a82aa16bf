"""The records that steps pass on: small and frozen, with paths, fingerprints, counts and lineage."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, cast

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import BaseModel

Split = Literal["train", "validation", "test", "excluded"]
Verdict = Literal["promoted", "held", "rejected", "unchanged"]


@dataclass(frozen=True)
class Batch:
    """Fresh rows, staged by ingest and not yet validated.

    Args:
        number: position in the order of batches; corpus and quarantine each commit it once.
        path: the staged Parquet file; None without fresh rows.
        fingerprint: digest over the row versions.
        rows: number of fresh rows in the file.
        read: number of rows in the sources, fresh or not.
        sources: what was read, as `{uri: fingerprint}`.
    """

    number: int
    path: str | None
    fingerprint: str
    rows: int
    read: int
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The corpus at one version, and the counts of the batches that led to it.

    Args:
        version: Delta version of the corpus.
        fingerprint: digest over the current row versions and their splits, in any order.
        rows: number of current rows by split.
        labels: label values in their fixed order, which is the order of the model's outputs.
        batch: number of the newest batch in it.
        new, accepted, refused: numbers of rows since the last concluded run.
        reasons: number of refused rows by reason.
        data_docs: folders of the Great Expectations Data Docs of the batches since then.
    """

    version: int
    fingerprint: str
    rows: dict[str, int]
    labels: tuple[str, ...]
    batch: int
    new: int = 0
    accepted: int = 0
    refused: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    data_docs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """A snapshot's rows as token ids, in memory-mapped Arrow files.

    Args:
        files: one Arrow file for each part of a batch, in corpus order.
        fingerprint: digest of snapshot, tokenizer and encoding.
        snapshot: what was encoded.
        tokens: number of tokens by split, without padding.
        truncated: number of rows cut at the maximum length, in all splits.
    """

    files: tuple[str, ...]
    fingerprint: str
    snapshot: Snapshot
    tokens: dict[str, int]
    truncated: int


@dataclass(frozen=True)
class TooLittle:
    """No candidate: the rows since the champion are too few to train on, for this reason."""

    reason: str


@dataclass(frozen=True)
class Candidate:
    """A fine-tuned model in its bundle folder, and the MLflow run that made it.

    Args:
        bundle: folder with weights, tokenizer, labels and prediction code (see `serving/bundle.py`).
        run_id: of the MLflow run.
        run_folder: folder of the run, with checkpoints.
        digest: digest over the bundle's files.
        steps: number of optimiser steps.
        epochs: number of passes over the training rows.
        seconds: time spent in training.
        train_loss: mean loss of the training.
        trained: share of the parameters that were trained; None for a training before November 2026.
    """

    bundle: str
    run_id: str
    run_folder: str
    digest: str
    tokens: Tokens
    steps: int
    epochs: float
    seconds: float
    train_loss: float
    trained: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of challenger and champion on the same rows, from the same run.

    Args:
        metrics: `{split: {metric: value}}` of the challenger; `test_clean` is `test` without leaked rows.
        champion_version: registered version of the champion; None without a champion.
        champion_metrics: like `metrics`.
        evidence: path of the `.npz` with per-row sufficient statistics that the gate reads.
        details: path of the JSON with per-class reports, confusion, calibration and intervals.
        leaked: number of test rows that are in or near a training snapshot; the gate leaves them out.
        problem: why the comparison is not complete, such as an unreadable champion; None without a problem.
    """

    metrics: dict[str, dict[str, float]]
    champion_version: int | None
    champion_metrics: dict[str, dict[str, float]]
    evidence: str
    details: str
    leaked: int
    seconds: float
    problem: str | None = None


class Evidence(TypedDict, total=False):
    """One test behind a decision, as the ledger holds it; which keys there are depends on the test.

    Args:
        test: such as `superior`, `slice` or `parity`.
        metric: what was compared.
        rows: number of rows; `groups` of them.
        on: the rows or the robustness test, in words.
        estimate: difference of the models; `low` to `high` is its interval, or that of the challenger.
        threshold: what the value was compared with.
        passed: None where the test only reports.
        challenger, champion: values of the two models.
        look: how often this champion was challenged on these very test rows; `fingerprint` of the rows.
        problem: of a parity check: why there is nothing to compare; None if there is.
        agreement: share of equal labels; `difference`: largest difference of a probability.
        bytes, seconds: of a compressed variant's original and the variant.
    """

    test: Required[str]
    metric: str
    rows: int
    groups: int | None
    on: str | None
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    look: int | None
    fingerprint: str | None
    threshold: float | None
    passed: bool | None
    challenger: float | None
    champion: float | None
    problem: str | None
    agreement: float | None
    difference: float
    bytes: Sequence[int]
    seconds: Sequence[float]


@dataclass(frozen=True)
class Decision:
    """The gate's decision, and the evidence for it.

    Args:
        verdict: `promoted`, `held` or `rejected`.
        reason: one sentence for a person.
        evidence: every test behind the decision: estimate, interval, p-value, rows, threshold, passed.
        waiting: all tests passed, and a person has to approve.
    """

    verdict: Verdict
    reason: str
    evidence: tuple[Evidence, ...] = ()
    waiting: bool = False


@dataclass(frozen=True)
class Inputs:
    """Rows to score, at most 10,000.

    Args:
        values: the model's input of each row; None for a row without one.
        problems: why each row cannot be scored; None if it can.
        table: the rows with all columns of their file.
    """

    values: list[Any]
    problems: list[str | None]
    table: "pa.Table"


@dataclass(frozen=True)
class Scores:
    """The result of `evertune score`.

    Args:
        output: path of the file.
        rows: number of all rows.
        bad: number of rows that could not be scored; the file has a null and a reason for each.
        version: registered version that predicted.
    """

    output: str
    rows: int
    bad: int
    version: int


@dataclass(frozen=True)
class Trigger:
    """A trigger of the recipe whose condition the monitor found to be met.

    Args:
        name: `drift`, `new_labels` or `performance_drop`.
        reason: one sentence for a person.
        starts: whether it starts a retraining.
        held: why it starts none, and what to do; None if it does.
    """

    name: str
    reason: str
    starts: bool
    held: str | None = None


@dataclass(frozen=True)
class Monitoring:
    """The result of a check for drift.

    Args:
        drifted: whether `p` is at most `level`.
        reason: one sentence for a person.
        p: probability of findings as strong as these if nothing has changed; None if there are too few rows.
        rows: numbers of compared rows, `reference` and `current`.
        source: of the current rows, in words.
        findings: each test with its p-value, corrected for the number of tests, and the change in words.
        triggers: of the recipe whose conditions are met.
        left_out: number of current rows that are not compared, because the champion knows them or rows near them.
    """

    model: str
    version: int
    drifted: bool
    reason: str
    p: float | None
    level: float
    rows: dict[str, int]
    source: str
    findings: tuple[dict[str, Any], ...] = ()
    report: str | None = None
    run_id: str | None = None
    triggers: tuple[Trigger, ...] = ()
    left_out: int = 0


class SnapshotFacts(TypedDict, total=False):
    """What an outcome says of its snapshot; empty where there was none."""

    version: int
    rows: dict[str, int]  # by split
    fingerprint: str


class RowCounts(TypedDict, total=False):
    """Numbers of rows since the last concluded run; `reasons` counts the refused ones by reason."""

    new: int
    accepted: int
    refused: int
    reasons: dict[str, int]


class TrainingFacts(TypedDict, total=False):
    """What an outcome says of its training; empty where nothing was trained."""

    steps: int
    epochs: float
    seconds: float
    loss: float
    tokens: dict[str, int]  # by split
    trained_share: float | None


@dataclass(frozen=True)
class Outcome:
    """How a retraining ended; `evertune run --json` prints it."""

    decision: Verdict
    reason: str
    model: str
    version: int | None
    champion_version: int | None
    run_id: str | None
    snapshot: SnapshotFacts
    rows: RowCounts
    metrics: dict[str, dict[str, float]]
    seconds: dict[str, float]
    report: str | None
    evidence: tuple[Evidence, ...] = ()
    training: TrainingFacts = field(default_factory=TrainingFacts)
    leaked: int = 0  # number of test rows in or near a training snapshot
    waiting: bool = False  # held until a person approves


def to_plain(value: object) -> Any:
    """Return a record, path or pydantic model as JSON-ready values."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def dump_settings(section: "BaseModel", *left_out: str) -> dict[str, Any]:
    """Return the fields of a recipe section that differ from their defaults, JSON-ready.

    So a field that a later version adds changes no fingerprint. The field `type` is always included, also that of a
    section within: each type has defaults of its own.

    Args:
        section: a pydantic model.
        left_out: names of fields to leave out.
    """
    values: dict[str, Any] = section.model_dump(mode="json", exclude_defaults=True, exclude=set(left_out))
    for name, value in section:
        if name == "type":
            values[name] = value
        elif "type" in getattr(type(value), "model_fields", {}) and name not in left_out:
            values[name] = {**values.get(name, {}), "type": value.type}
    return values


def compute_digest(*values: object) -> str:
    """Return a 32-digit hexadecimal digest of JSON-ready values; equal values have equal digests on every machine.

    Only the fields of a recipe section that differ from their defaults count.
    """
    plain_values = [
        dump_settings(cast("BaseModel", value)) if hasattr(value, "model_dump") else to_plain(value) for value in values
    ]
    text = json.dumps(plain_values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Return the BLAKE2b digest of a file's bytes, read in chunks.

    Raises:
        OSError: the file cannot be read.
    """
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()
