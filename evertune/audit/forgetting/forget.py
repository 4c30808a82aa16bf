"""Forget rows at a person's request: remove them from everything under Evertune's control, completely or not at all.

First the rows are looked up; an unknown id is an error, and nothing is removed. Then the intent is written to disk, and
from then on the next process completes what a crash left. Every step can be repeated.
"""

import logging
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from evertune.audit.forgetting import pages, subjects, tables, write_ahead
from evertune.audit.forgetting.write_ahead import GoneRow, Intent, count_lost_rows
from evertune.config import Recipe
from evertune.data.corpus import tombstones
from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.tombstones import Tombstones, list_values
from evertune.data.row_versions import has_id
from evertune.data.text_matching import TextMatcher, fold_text
from evertune.errors import DataError
from evertune.registry.decisions import ledger
from evertune.registry.versions import lineage
from evertune.runs import up_to_date
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Forgotten", "count_lost_rows", "forget_rows", "resume_forgetting"]

WAIT = 5.0  # seconds to wait for a running job
STALE_SECONDS = 600.0  # age at which a half-written file belongs to a killed process
MAX_SHOWN = 10  # ids that a message names
logger = logging.getLogger(__name__)


class SeenVersion(TypedDict):
    """A registered version that has seen forgotten rows: how many, by split, and which of its ancestors have."""

    version: int
    aliases: list[str]
    rows: dict[str, int]
    descends: list[int]


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten, or would be.

    Args:
        rows: number of row versions, by table.
        known: number of ids that had been forgotten before.
        files: number of files that were changed or removed, by kind.
        versions: registered versions that were trained or tested on the rows, or descend from one that was.
        outside: what Evertune cannot reach, in words.
        fresh_start: whether the recipe trains from the champion, so that a fresh start from the base is needed.
        dry_run: whether nothing was removed.
    """

    rows: dict[str, int]
    known: int
    files: dict[str, int]
    versions: tuple[SeenVersion, ...]
    outside: tuple[str, ...]
    fresh_start: bool
    dry_run: bool


def forget_rows(
    context: RunContext, requested: Mapping[str, Iterable[str]], reason: str, *, dry_run: bool = False
) -> Forgotten:
    """Forget all versions of rows, wherever they are stored; nothing is forgotten if one of them is unknown.

    Args:
        requested: names by kind: `id` (ids, or row versions as the quarantine shows them), `group` and `text`.
        reason: recorded in the ledger, with counts and without names.
        dry_run: only count.
    Raises:
        DataError: nothing was ever ingested, an id is unknown, or a file cannot be written.
        RegistryError: a run, a backtest, a search or a reproduction is in progress, or MLflow does not answer.
    """
    with context.home.no_jobs_running(WAIT):
        resume_forgetting(context.home)
        versions = lineage.list_trained_versions(context.home, context.recipe.registered_name)
        stones = tombstones.load_tombstones(context.home) if dry_run else tombstones.load_with_key(context.home)
        intent, known_count = _plan_intent(context, requested, stones, reason)
        files = (
            _count_files(context.home, intent) if dry_run or not intent.versions else _carry_out(context.home, intent)
        )
        affected_versions = tuple(
            entry for entry in _describe_versions(context.home, versions, intent) if entry["rows"] or entry["descends"]
        )
        return Forgotten(
            intent.rows,
            known_count,
            files,
            affected_versions,
            tuple(_list_outside(context)),
            context.recipe.data.fresh.start_from == "champion",
            dry_run,
        )


def resume_forgetting(home: Home) -> None:
    """Complete what a killed process had begun to forget.

    Raises:
        DataError: a file cannot be written.
    """
    intent = write_ahead.read_intent(home)
    if intent is not None:
        logger.info("completing a removal of rows that was interrupted")
        _carry_out(home, intent)


def _plan_intent(
    context: RunContext, requested: Mapping[str, Iterable[str]], stones: Tombstones, reason: str
) -> tuple[Intent, int]:
    """Return what is to be forgotten, and how many of the requested ones were forgotten before."""
    names = {kind: {name.strip() for name in raw_names} - {""} for kind, raw_names in requested.items()}
    names["text"] = {fold_text(text) for text in names.get("text", ())}
    digests, matched = _match_subjects(context, names, stones)
    unknown = [
        (kind, name) for kind, kind_names in names.items() for name in sorted(kind_names) if name not in matched[kind]
    ]
    forgotten_before = [pair for pair in unknown if _was_forgotten(stones, *pair)]
    missing = [name for kind, name in unknown if (kind, name) not in forgotten_before]
    if missing:
        shown = ", ".join(missing[:MAX_SHOWN])
        more = f" and {len(missing) - MAX_SHOWN:,} more" if len(missing) > MAX_SHOWN else ""
        raise DataError(
            f"{context.home.name} has no rows for {len(missing):,} of the {sum(map(len, names.values())):,} given "
            "names: "
            f"{shown}{more}; nothing was forgotten. Leave them out and run again; without an id column, give the "
            "row_version that `evertune quarantine --json` shows, or the text itself with --text"
        )
    known_count = len(forgotten_before)
    intent = _build_intent(context, Tombstones(stones.key, digests), known_count, names, reason)
    return intent, known_count


def _was_forgotten(stones: Tombstones, kind: str, value: str) -> bool:
    """Return whether this name was forgotten before; an id may also be a row version."""
    kinds = ("id", "row") if kind == "id" else (kind,)
    return any(stones.compute_digest(digest_kind, value) in stones.digests[digest_kind] for digest_kind in kinds)


def _match_subjects(
    context: RunContext, names: Mapping[str, set[str]], stones: Tombstones
) -> tuple[dict[str, frozenset[str]], dict[str, set[str]]]:
    """Return the tombstones of the requested rows, and the names that were found.

    A row is identified by its id; without one, by its text.
    """
    digests: dict[str, set[str]] = {kind: set() for kind in tombstones.KINDS}
    matched: dict[str, set[str]] = {kind: set() for kind in names}
    for _, chunk in corpus.iterate_all_rows(context.home):
        for name, kind in (("id", "id"), ("row", "id"), ("group", "group"), ("text", "text")):
            if not names.get(kind):
                continue
            for index, value in enumerate(list_values(chunk, name)):
                if value in names[kind]:
                    matched[kind].add(value)
                    stone_kind, stone_value = (
                        _identify_row(chunk, index, context.recipe) if kind != "group" else ("group", value)
                    )
                    digests[stone_kind].add(stones.compute_digest(stone_kind, stone_value))
                    if kind == "text":
                        digests["text"].add(stones.compute_digest("text", value))
    return {kind: frozenset(kind_digests) for kind, kind_digests in digests.items()}, matched


def _identify_row(chunk: "pa.Table", index: int, recipe: Recipe) -> tuple[str, str]:
    """Return the kind and value that identify a row for good."""
    row = chunk.slice(index, 1)
    row_id = row["id"][0].as_py()
    if row_id is not None:
        return "id", row_id
    text = list_values(row, "text")[0]
    if has_id(recipe) or not text:
        return "row", row["row_version"][0].as_py()
    return "text", text


def _build_intent(
    context: RunContext, stones: Tombstones, count_before: int, names: Mapping[str, set[str]], reason: str
) -> Intent:
    rows = {"corpus": 0, "quarantine": 0, "batches": 0}
    gone_rows = dict[str, GoneRow]()
    versions = list[str]()
    texts = set[str]()
    pictures = set[str]()
    objective = context.objective
    last = corpus.newest_version(context.home) if corpus.last_number(context.home) else 0
    has_digests = any(stones.digests.values())
    for table, chunk in corpus.iterate_all_rows(context.home):
        selected = chunk.filter(stones.find_forgotten(chunk)) if has_digests else chunk.slice(0, 0)
        rows[table] += len(selected)
        versions += selected["row_version"].to_pylist()
        texts.update(subjects.extract_texts(selected, objective))
        pictures.update(subjects.digest_pictures(selected, objective))
        if table == "corpus":
            for row in selected.select(["row_key", "batch", "split"]).to_pylist():
                key = stones.compute_digest("row", row["row_key"])
                batch = min(row["batch"], gone_rows[key][1]) if key in gone_rows else row["batch"]
                gone_rows[key] = (key, batch, row["split"], last)
    return Intent(
        mark=uuid.uuid4().hex[:12],
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        who=ledger.find_user(),
        reason=reason,
        asked=sum(map(len, names.values())) - count_before,
        rows=rows,
        gone=list(gone_rows.values()),
        digests={kind: sorted(kind_digests) for kind, kind_digests in stones.digests.items()},
        versions=versions,
        texts=sorted(texts),
        pieces=subjects.is_shown_in_pieces(objective),
        pictures=sorted(pictures),
    )


def _build_texts(home: Home, intent: Intent) -> TextMatcher:
    """Return the texts to search pages for, without those that equal a label: they would be found everywhere."""
    labels = {fold_text(label) for label in corpus.known_labels(home)}
    return TextMatcher(
        (text for text in intent.texts if fold_text(text) not in labels), intent.pictures, pieces=intent.pieces
    )


def _count_files(home: Home, intent: Intent) -> dict[str, int]:
    """Return the number of files that would be changed or removed, by kind."""
    if not intent.versions:
        return {"pages": 0, "tokens": 0}
    texts = _build_texts(home, intent)
    paths = [*(path for path, _ in pages.find_pages(home, texts)), *tables.find_tables(home, texts)]
    return {"pages": len(paths), "tokens": len(_find_token_files(home, intent))}


def _carry_out(home: Home, intent: Intent) -> dict[str, int]:
    """Do all steps of forgetting, in an order in which a crash may come after any of them.

    Returns the number of files that were changed or removed, by kind.
    """
    write_ahead.write_intent(home, intent)
    stones = tombstones.add_digests(home, intent.digests)
    texts = _build_texts(home, intent)
    cleaned = pages.clean_pages(home, texts) + tables.clean_tables(home, texts)
    stale = _find_token_files(home, intent)
    for path in [*stale, *home.tokens.glob("*/*.part"), *_find_scratch_files(home)]:
        path.unlink(missing_ok=True)
    _drop_trained(home)
    corpus.remove_rows(home, stones.find_forgotten)
    write_ahead.add_gone_rows(home, intent.gone)
    if intent.gone:
        up_to_date.invalidate_conclusion(home)
    if not any(entry.get("mark") == intent.mark for entry in ledger.read_entries(home)):
        ledger.append_event(
            home,
            "forgotten",
            who=intent.who,
            reason=intent.reason,
            mark=intent.mark,
            asked=intent.asked,
            rows=intent.rows,
        )
    write_ahead.clear_intent(home)
    return {"pages": cleaned, "tokens": len(stale)}


def _find_token_files(home: Home, intent: Intent) -> list[Path]:
    """Return the token files that contain one of the rows; they are encoded again when needed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    gone_versions = pa.array(intent.versions, pa.string())
    stale = []
    for path in sorted(home.tokens.glob("*/*.arrow")):
        with pa.memory_map(str(path)) as source:
            row_versions = pa.ipc.open_stream(source).read_all()["row_version"]
            if pc.any(pc.is_in(row_versions, value_set=gone_versions)).as_py():
                stale.append(path)
    return stale


def _find_scratch_files(home: Home) -> list[Path]:
    """Return the files that killed processes were writing, see `files.write_atomic`."""
    cutoff = time.time() - STALE_SECONDS
    paths = (path for path in home.model.rglob(".*.????????") if path.is_file())
    return [path for path in paths if path.stat().st_mtime < cutoff]


def _drop_trained(home: Home) -> None:
    """Remove models of backtests and searches, and checkpoints of unfinished trainings, so that none continues."""
    patterns = (
        "backtests/*/models",
        "backtests/*/scores",
        "searches/*/trials",
        "runs/*/checkpoints",
        "runs/*/processes",
        "reproduced",
    )
    for pattern in patterns:
        for folder in home.model.glob(pattern):
            shutil.rmtree(folder)


def _describe_versions(home: Home, versions: Sequence[lineage.TrainedVersion], intent: Intent) -> list[SeenVersion]:
    """Return how many of the rows each registered version has seen, by split, and which of its ancestors have."""
    rows_seen = {
        entry.version: count_lost_rows(home, entry.snapshot, corpus.batch_of(home, entry.snapshot), intent.gone)
        for entry in versions
    }
    return [
        {
            "version": entry.version,
            "aliases": list(entry.aliases),
            "rows": rows_seen[entry.version],
            "descends": [
                version for version in lineage.find_ancestors(versions, entry.version) if rows_seen.get(version)
            ],
        }
        for entry in versions
    ]


def _list_outside(context: RunContext) -> Iterable[str]:
    """Yield what Evertune cannot reach and a person has to clean."""
    yield "the sources themselves: the rows are still there, and are left out each time the sources are read"
    yield "the weights of the versions above: only a newly trained model has not learned from the rows"
    uri = lineage.find_external_store(context.home)
    if uri is not None:
        yield f"the reports and input examples in MLflow at {uri}"
    yield f"files that `evertune score` and `evertune quarantine --export` wrote outside of {context.home.model}"
    yield "backups, and copies made by others"
    yield "Prefect's database: the log of a stopped batch shows some of its refused rows"
    others = sorted(
        folder.parent.name
        for folder in context.home.root.glob("models/*/corpus")
        if folder.parent.name != context.home.name
    )
    if others:
        yield f"other models of this home: {', '.join(others)}; forget the rows there too, if they were ingested"
