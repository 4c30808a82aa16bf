"""Where a run's model comes from: source files, base model, recipe, code and machine, as its page and its card tell."""

from typing import TYPE_CHECKING, Any

from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.reverted_rows import place
from evertune.models import base as base_models
from evertune.registry.versions import versions as models
from evertune.runs import up_to_date as conclusion
from evertune.runtime.files import read_json
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

    from evertune.config import Recipe
    from evertune.records import Snapshot

SHOWN = 50  # sources that are told one by one, the newest; the others are counted


def told(recipe: "Recipe", home: Home, snapshot: "Snapshot", run_id: str) -> dict[str, Any]:
    """All that is known of it, JSON-ready and without a text of a row.

    Raises:
        DataError: the snapshot cannot be read.
        RegistryError: MLflow does not answer.
    """
    rows = corpus.rows(home, snapshot.version, ["source", "split", "timestamp", "batch"])
    return {
        "recipe": recipe.file, "recipe_fingerprint": conclusion.recipe_fingerprint(recipe),
        "base_model": base_models.told(recipe), "labels": list(snapshot.labels), "dates": _dates(rows),
        **_sources(rows, (read_json(home.state) or {}).get("sources", {})), **models.made_with(home, run_id),
    }  # fmt: skip


def _dates(rows: "pa.Table") -> dict[str, list[str]]:
    """First and last day of each split's rows, of those that have a timestamp."""
    found = rows.group_by("split").aggregate([("timestamp", "min"), ("timestamp", "max")]).to_pylist()
    return {one["split"]: _days(one) for one in found if one["timestamp_min"] is not None}


def _sources(rows: "pa.Table", fingerprints: dict[str, str]) -> dict[str, Any]:
    """Rows of each source in the snapshot, when they are from, and the digest of what was read of it last."""
    digests = {place(uri): fingerprint for uri, fingerprint in fingerprints.items()}
    wanted = [("batch", "max"), ("timestamp", "count"), ("timestamp", "min"), ("timestamp", "max")]
    found = rows.group_by("source").aggregate([*wanted, ("split", "count")]).to_pylist()
    found.sort(key=lambda one: (-one["batch_max"], one["source"]))
    listed = [
        {
            "source": one["source"], "rows": one["split_count"], "digest": digests.get(one["source"]),
            "days": _days(one) if one["timestamp_count"] else None,
        }
        for one in found[:SHOWN]
    ]  # fmt: skip
    rest = found[SHOWN:]
    return {"sources": listed, "others": {"sources": len(rest), "rows": sum(one["split_count"] for one in rest)}}


def _days(one: dict[str, Any]) -> list[str]:
    return [str(one[name].date()) for name in ("timestamp_min", "timestamp_max")]
