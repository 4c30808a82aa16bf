"""What one step hands to the next: small frozen records of paths, fingerprints, counts and lineage."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

Split = Literal["train", "validation", "test", "excluded"]
Verdict = Literal["promoted", "held", "rejected", "unchanged"]


@dataclass(frozen=True)
class Batch:
    """Fresh rows, staged by ingest and not yet judged.

    Args:
        number: place in the order of batches; the corpus and the quarantine each carry it once.
        path: the staged Parquet file; None where nothing was fresh.
        fingerprint: digest over the row versions.
        rows: fresh rows in the file.
        read: rows that the sources gave, fresh or not.
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
    """The corpus at one version, and what led to it.

    Args:
        version: Delta version of the corpus.
        fingerprint: order-free digest over the current row versions and their splits.
        rows: current rows by split.
        labels: label values in their fixed order; model outputs follow it.
        batch: number of the newest batch in it.
        new, accepted, refused: rows that came since the last concluded run.
        reasons: refused rows by reason.
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
        files: one Arrow file a batch part, in corpus order.
        fingerprint: digest of snapshot, tokenizer and encoding.
        snapshot: what was encoded.
        tokens: real tokens by split.
        truncated: rows cut at the maximum length, all splits.
    """

    files: tuple[str, ...]
    fingerprint: str
    snapshot: Snapshot
    tokens: dict[str, int]
    truncated: int


@dataclass(frozen=True)
class TooLittle:
    """No candidate: the rows that came since the champion teach nothing yet, for this reason."""

    reason: str


@dataclass(frozen=True)
class Candidate:
    """A fine-tuned model in its bundle folder, and the MLflow run that made it.

    Args:
        bundle: folder with weights, tokenizer, labels and the code that predicts (see `bundle.py`).
        run_id: MLflow run; run_folder: the step's own folder with checkpoints.
        digest: SHA-256 over the bundle's files.
        steps: optimiser steps taken; epochs: passes over the training rows; seconds: spent in training.
        trained: share of the parameters that learned; None of a training before November 2026.
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
    """Challenger and champion, scored on the same rows in the same run.

    Args:
        metrics: `{split: {metric: value}}` of the challenger; `test` is the test split, `test_clean` without leaks.
        champion_version: registered version compared with; None where there is no champion.
        champion_metrics: like `metrics`.
        evidence: path of the `.npz` with per-row sufficient statistics that the gate reads.
        details: path of the JSON with per-class reports, confusion, calibration and intervals.
        leaked: test rows that stand in or near a training snapshot, left out of the gate.
    """

    metrics: dict[str, dict[str, float]]
    champion_version: int | None
    champion_metrics: dict[str, dict[str, float]]
    evidence: str
    details: str
    leaked: int
    seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why.

    Args:
        verdict: `promoted`, `held` or `rejected`.
        reason: one sentence for a person.
        evidence: every test behind it: estimate, interval, p-value, rows, threshold, passed.
        waiting: it passed, and a person is asked.
    """

    verdict: Verdict
    reason: str
    evidence: tuple[dict[str, Any], ...] = ()
    waiting: bool = False


@dataclass(frozen=True)
class Inputs:
    """Rows to score, at most 10,000.

    Args:
        values: the model's inputs; None where a row has none.
        problems: why a row cannot be scored; None where it can.
        table: the rows with the columns of their file.
    """

    values: list[Any]
    problems: list[str | None]
    table: "pa.Table"


@dataclass(frozen=True)
class Scores:
    """What `score` wrote.

    Args:
        rows: all rows; bad: those of them that got a null and a reason.
        version: registered version that predicted.
    """

    output: str
    rows: int
    bad: int
    version: int


@dataclass(frozen=True)
class Trigger:
    """A reason for a retraining that the monitor saw.

    Args:
        name: `drift`, `new_labels` or `performance_drop`; reason: one sentence for a person.
        starts: whether it starts a retraining; held: why not, and what to do.
    """

    name: str
    reason: str
    starts: bool
    held: str | None = None


@dataclass(frozen=True)
class Monitoring:
    """What `monitor` found.

    Args:
        drifted: whether `p` is at most `level`; reason: one sentence for a person.
        p: chance of findings as strong as these where nothing has changed; None where there are too few rows.
        rows: compared, `reference` and `current`; source: of the latter.
        findings: each test with its p-value, corrected for their number, and what changed in words.
        triggers: of the recipe that have been met.
        left_out: rows that came and are not compared, for the champion knows them or rows near them.
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


@dataclass(frozen=True)
class Outcome:
    """How a retrain ended; `evertune run --json` prints it (see `cli/`)."""

    decision: Verdict
    reason: str
    model: str
    version: int | None
    champion_version: int | None
    run_id: str | None
    snapshot: dict[str, Any]
    rows: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    seconds: dict[str, float]
    report: str | None
    evidence: tuple[dict[str, Any], ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    leaked: int = 0  # test rows that stand in or near a training snapshot
    waiting: bool = False  # held because a person is asked


def to_plain(value: Any) -> Any:
    """A record, path or pydantic model as JSON-ready values."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def dump_settings(section: Any, *left_out: str) -> dict[str, Any]:
    """What a section of a recipe sets other than by default: a field that a later version adds changes no fingerprint.

    Its `type`, and that of a section in it, always counts: each type has its own for the default.

    Args:
        section: a pydantic model.
        left_out: names of fields.
    """
    values: dict[str, Any] = section.model_dump(mode="json", exclude_defaults=True, exclude=set(left_out))
    for name, value in section:
        if name == "type":
            values[name] = value
        elif "type" in getattr(type(value), "model_fields", {}) and name not in left_out:
            values[name] = {**values.get(name, {}), "type": value.type}
    return values


def compute_digest(*values: Any) -> str:
    """A 32-digit hexadecimal fingerprint of JSON-ready values; equal values, equal digest, on every machine.

    Of a recipe's section only what is not the default counts.
    """
    plain_values = [dump_settings(value) if hasattr(value, "model_dump") else to_plain(value) for value in values]
    text = json.dumps(plain_values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """BLAKE2b of a file's bytes, read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest()
