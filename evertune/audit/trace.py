"""Trace a registered version back to its rows, recipe and code, and to the people who promoted it."""

from typing import TYPE_CHECKING, NotRequired, TypedDict

from evertune.audit.forgetting import forget
from evertune.data import label_names
from evertune.data.corpus import transactions as corpus
from evertune.errors import DataError
from evertune.records import Snapshot, compute_digest
from evertune.registry.decisions import ledger
from evertune.registry.versions import lineage
from evertune.registry.versions import versions as model_versions
from evertune.runtime.context import RunContext

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test", "excluded")


class SourceRows(TypedDict):
    """Rows of a source in a snapshot, with a digest over their contents."""

    source: str
    rows: int
    digest: str


class Ancestor(TypedDict):
    """A version that another one descends from, with the number of its rows that were forgotten, by split."""

    version: int
    forgotten: dict[str, int]


class RowsTrace(TypedDict):
    """The rows of a version's snapshot; where that cannot be read, `problem` says why and takes the place of the rest.

    Args:
        snapshot: version of the corpus.
        fingerprint: that was registered.
        then: rows by split when it was trained.
        descent: the versions that it descends from.
        unchanged: whether the rows still have that fingerprint.
        splits: rows by split now; `gone`: how many fewer than then; `forgotten`: how many of these on request.
    """

    snapshot: int | None
    fingerprint: str | None
    then: dict[str, int]
    problem: NotRequired[str]
    descent: NotRequired[list[Ancestor]]
    unchanged: NotRequired[bool]
    splits: NotRequired[dict[str, int]]
    forgotten: NotRequired[dict[str, int]]
    gone: NotRequired[dict[str, int]]
    sources: NotRequired[list[SourceRows]]


class VersionTrace(model_versions.VersionFacts):
    """All that is known of a registered version."""

    rows: RowsTrace
    decisions: list[ledger.Entry]
    moves: list[ledger.Entry]


def trace_version(context: RunContext, version: int) -> VersionTrace:
    """Return all that is known of a registered version, JSON-ready.

    The keys are `model`, `run`, `recipe`, `environment`, `rows`, `decisions` and `moves`.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    name = context.recipe.registered_name
    facts = model_versions.describe_version(context.home, name, version)
    record: model_versions.VersionFacts = {**facts, "model": {"name": name, "version": version, **facts["model"]}}
    entries = ledger.read_entries(context.home)
    return {
        "model": record["model"],
        "run": record["run"],
        "recipe": record["recipe"],
        "environment": record["environment"],
        "rows": _describe_rows(context, record),
        "decisions": [entry for entry in entries if entry.get("version") == version],
        "moves": [
            entry for entry in entries if entry["event"] in {"moved", "external"} and version in _move_ends(entry)
        ],
    }


def _move_ends(entry: ledger.Entry) -> tuple[int | None, int | None]:
    return entry.get("from"), entry.get("to")


def _describe_rows(context: RunContext, record: model_versions.VersionFacts) -> RowsTrace:
    """Return the rows of the version's snapshot by split and by source, and whether they have changed since."""
    registered = record["model"]["fingerprint"]
    rows_then = record["run"]["rows"]
    if record["model"]["snapshot"] is None:
        return {"snapshot": None, "fingerprint": registered, "then": rows_then, "problem": model_versions.OUTSIDE}
    version = int(record["model"]["snapshot"])
    summary: RowsTrace = {"snapshot": version, "fingerprint": registered, "then": rows_then}
    try:
        rows = corpus.read_rows(context.home, version)
        fingerprint, sizes = corpus.fingerprint_contents(context.home, version)
    except (DataError, OSError, KeyError, ValueError) as error:  # the table was cleaned or moved
        return {**summary, "problem": f"snapshot {version} cannot be read: {error}"}
    renamed = ((record["recipe"].get("contract") or {}).get("label") or {}).get("rename") or {}
    contract = context.recipe.contract.model_copy(
        update={"label": context.recipe.contract.label.model_copy(update={"rename": renamed})}
    )
    past_recipe = context.recipe.model_copy(update={"contract": contract})
    relabelled = label_names.rename_snapshot(Snapshot(version, fingerprint, sizes, (), 0), past_recipe)
    forgotten = forget.count_lost_rows(context.home, version, corpus.batch_of(context.home, version))
    return {
        **summary,
        "descent": _describe_descent(context, record),
        "unchanged": relabelled.fingerprint == registered,
        "splits": sizes,
        "forgotten": forgotten,
        "gone": {split: count - sizes.get(split, 0) for split, count in summary["then"].items()},
        "sources": _describe_sources(rows),
    }


def _describe_descent(context: RunContext, record: model_versions.VersionFacts) -> list[Ancestor]:
    """Return the versions that it descends from, with the number of rows of each that were forgotten, by split."""
    versions = lineage.list_trained_versions(context.home, context.recipe.registered_name)
    snapshots = {entry.version: entry.snapshot for entry in versions}
    return [
        {
            "version": version,
            "forgotten": forget.count_lost_rows(
                context.home, snapshots[version], corpus.batch_of(context.home, snapshots[version])
            ),
        }
        for version in lineage.find_ancestors(versions, record["model"]["version"])
        if version in snapshots
    ]


def _describe_sources(rows: "pa.Table") -> list[SourceRows]:
    """Return the number of rows of each source, with a digest over their contents.

    A row version is itself a digest of the row's content.
    """
    versions_by_source: dict[str, list[str]] = {}
    for source, row_version in zip(rows["source"].to_pylist(), rows["row_version"].to_pylist(), strict=True):
        versions_by_source.setdefault(source, []).append(row_version)
    return [
        {"source": name, "rows": len(row_versions), "digest": compute_digest(sorted(row_versions))}
        for name, row_versions in sorted(versions_by_source.items())
    ]
