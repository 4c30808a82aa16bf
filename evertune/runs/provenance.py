"""Where a run's model comes from: source files, base model, recipe, code and machine; for its page and model card."""

from typing import TYPE_CHECKING, Any

from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.reverted_rows import strip_table_version
from evertune.data.corpus.state import load_state
from evertune.models import base as base_models
from evertune.registry.versions import versions
from evertune.runs import up_to_date

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.records import Snapshot
    from evertune.runtime.context import RunContext

SHOWN = 50  # newest sources that are listed; the others are counted


def describe_origin(context: "RunContext", snapshot: "Snapshot", run_id: str) -> dict[str, Any]:
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


def _describe_sources(rows: "pa.Table", fingerprints: dict[str, str]) -> dict[str, Any]:
    """Return the rows of each source in the snapshot, their days, and the digest of the source as it was read last."""
    digests = {strip_table_version(uri): fingerprint for uri, fingerprint in fingerprints.items()}
    statistics = [("batch", "max"), ("timestamp", "count"), ("timestamp", "min"), ("timestamp", "max")]
    aggregates = rows.group_by("source").aggregate([*statistics, ("split", "count")]).to_pylist()
    aggregates.sort(key=lambda aggregate: (-aggregate["batch_max"], aggregate["source"]))
    listed = [
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


def _format_days(aggregate: dict[str, Any]) -> list[str]:
    return [str(aggregate[name].date()) for name in ("timestamp_min", "timestamp_max")]
