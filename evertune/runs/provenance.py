"""Where a run's model comes from: source files, base model, recipe, code and machine; for its page and model card."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.reverted_rows import strip_table_version
from evertune.data.corpus.state import load_state
from evertune.models import base as base_models
from evertune.registry.versions import versions
from evertune.runs import up_to_date

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from evertune.records import Snapshot
    from evertune.runtime.context import RunContext

SHOWN = 50  # newest sources that are listed; the others are counted


class SourceLine(TypedDict):
    """A source in a snapshot: its rows, the digest of what was read last, and its first and last day."""

    source: str
    rows: int
    digest: str | None
    days: list[str] | None


class OtherSources(TypedDict):
    """The numbers of the sources that are not listed, and of their rows."""

    sources: int
    rows: int


class Sources(TypedDict):
    """The newest sources of a snapshot, and the numbers of the others."""

    sources: list[SourceLine]
    others: OtherSources


class Origin(Sources, versions.RunOrigin):
    """Where a run's model comes from.

    Args:
        recipe: name of the recipe's file.
        dates: first and last day of each split.
    """

    recipe: str
    recipe_fingerprint: str
    base_model: Mapping[str, object]
    labels: list[str]
    dates: dict[str, list[str]]


def describe_origin(context: "RunContext", snapshot: "Snapshot", run_id: str) -> Origin:
    """Return the origin of a run's model, JSON-ready and without text of rows.

    Raises:
        DataError: the snapshot cannot be read.
        RegistryError: MLflow does not answer.
    """
    rows = corpus.read_rows(context.home, snapshot.version, ["source", "split", "timestamp", "batch"])
    return {
        "recipe": context.recipe.file,
        "recipe_fingerprint": up_to_date.recipe_fingerprint(context.recipe),
        "base_model": base_models.describe_base(context.recipe),
        "labels": list(snapshot.labels),
        "dates": _describe_dates(rows),
        **_describe_sources(rows, load_state(context.home).sources),
        **versions.read_run_origin(context.home, run_id),
    }


def _describe_dates(rows: "pa.Table") -> dict[str, list[str]]:
    """Return the first and last day of each split's rows, for splits with timestamps."""
    aggregates = rows.group_by("split").aggregate([("timestamp", "min"), ("timestamp", "max")]).to_pylist()
    return {
        aggregate["split"]: _format_days(aggregate)
        for aggregate in aggregates
        if aggregate["timestamp_min"] is not None
    }


def _describe_sources(rows: "pa.Table", fingerprints: dict[str, str]) -> Sources:
    """Return the rows of each source in the snapshot, their days, and the digest of the source as it was read last."""
    digests = {strip_table_version(uri): fingerprint for uri, fingerprint in fingerprints.items()}
    statistics = [("batch", "max"), ("timestamp", "count"), ("timestamp", "min"), ("timestamp", "max")]
    aggregates = rows.group_by("source").aggregate([*statistics, ("split", "count")]).to_pylist()
    aggregates.sort(key=lambda aggregate: (-aggregate["batch_max"], aggregate["source"]))
    listed: list[SourceLine] = [
        {
            "source": aggregate["source"],
            "rows": aggregate["split_count"],
            "digest": digests.get(aggregate["source"]),
            "days": _format_days(aggregate) if aggregate["timestamp_count"] else None,
        }
        for aggregate in aggregates[:SHOWN]
    ]
    rest = aggregates[SHOWN:]
    return {
        "sources": listed,
        "others": {"sources": len(rest), "rows": sum(aggregate["split_count"] for aggregate in rest)},
    }


def _format_days(aggregate: "Mapping[str, datetime]") -> list[str]:
    return [str(aggregate[name].date()) for name in ("timestamp_min", "timestamp_max")]
