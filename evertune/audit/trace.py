"""Why is a version what it is? From the registered model back to rows, recipe, code, and the people who moved it."""

from typing import TYPE_CHECKING, Any

from evertune.audit.forgetting import forget as forgetting
from evertune.config import Recipe
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.errors import DataError
from evertune.records import Snapshot, digest
from evertune.registry.decisions import ledger
from evertune.registry.versions import lineage
from evertune.registry.versions import versions as models
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test", "excluded")


def trace(recipe: Recipe, home: Home, version: int) -> dict[str, Any]:
    """All that is known of a registered version, JSON-ready: `model`, `run`, `recipe`, `rows`, `decisions`, `moves`.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
    """
    name = recipe.registered_name
    facts = models.facts(home, name, version)
    known = {**facts, "model": {"name": name, "version": version, **facts["model"]}}
    entries = ledger.entries(home)
    return {
        "model": known["model"],
        "run": known["run"],
        "recipe": known["recipe"],
        "environment": known["environment"],
        "rows": _rows(recipe, home, known),
        "decisions": [one for one in entries if one.get("version") == version],
        "moves": [one for one in entries if one["event"] in {"moved", "external"} and version in _ends(one)],
    }


def _ends(entry: dict[str, Any]) -> tuple[Any, Any]:
    return entry.get("from"), entry.get("to")


def _rows(recipe: Recipe, home: Home, known: dict[str, Any]) -> dict[str, Any]:
    """The snapshot that it was trained and tested on, by split and by source, and whether it is still what it was."""
    registered, then = known["model"]["fingerprint"], known["run"]["rows"]
    if known["model"]["snapshot"] is None:
        return {"snapshot": None, "fingerprint": registered, "then": then, "problem": models.OUTSIDE}
    version = int(known["model"]["snapshot"])
    found: dict[str, Any] = {"snapshot": version, "fingerprint": registered, "then": then}
    try:
        rows = corpus.rows(home, version)
        now, sizes = corpus.contents(home, version)
    except (DataError, OSError, KeyError, ValueError) as error:  # the table was cleaned or lies elsewhere
        return {**found, "problem": f"snapshot {version} cannot be read: {error}"}
    renamed = ((known["recipe"].get("contract") or {}).get("label") or {}).get("rename") or {}
    contract = recipe.contract.model_copy(
        update={"label": recipe.contract.label.model_copy(update={"rename": renamed})}
    )
    past = recipe.model_copy(update={"contract": contract})
    again = relabel.snapshot(Snapshot(version, now, sizes, (), 0), past)
    forgotten = forgetting.lost(home, version, corpus.batch_of(home, version))
    return {
        **found, "descent": _descent(recipe, home, known),
        "unchanged": again.fingerprint == registered, "splits": sizes, "forgotten": forgotten,
        "gone": {split: count - sizes.get(split, 0) for split, count in found["then"].items()},
        "sources": _sources(rows),
    }  # fmt: skip


def _descent(recipe: Recipe, home: Home, known: dict[str, Any]) -> list[dict[str, Any]]:
    """The versions that it descends from, and the rows of each that were forgotten since, by split."""
    versions = lineage.learned(home, recipe.registered_name)
    snapshots = {one.version: one.snapshot for one in versions}
    return [
        {"version": one, "forgotten": forgetting.lost(home, snapshots[one], corpus.batch_of(home, snapshots[one]))}
        for one in lineage.forebears(versions, known["model"]["version"]) if one in snapshots
    ]  # fmt: skip


def _sources(rows: "pa.Table") -> list[dict[str, Any]]:
    """Rows of each source, with a digest over their versions: each version is a digest of the row itself."""
    by: dict[str, list[str]] = {}
    for source, row in zip(rows["source"].to_pylist(), rows["row_version"].to_pylist(), strict=True):
        by.setdefault(source, []).append(row)
    return [{"source": name, "rows": len(own), "digest": digest(sorted(own))} for name, own in sorted(by.items())]
