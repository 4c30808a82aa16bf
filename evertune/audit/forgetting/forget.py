"""Rows that a person wants forgotten, gone from everything under Evertune's control: all of it, or nothing.

First it is found out what is to go; an id that nobody knows ends it there. Then the intent is written, and from then on
whoever comes next finishes it. Each step can be done again.
"""

import logging
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.audit.forgetting import pages, subjects, tables, write_ahead
from evertune.audit.forgetting.write_ahead import Intent, count_lost_rows
from evertune.config import Recipe
from evertune.data.corpus import tombstones
from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.tombstones import Tombstones, list_values
from evertune.data.row_versions import has_id
from evertune.data.text_matching import TextMatcher, fold_text
from evertune.errors import DataError
from evertune.objectives import load_objective
from evertune.registry.decisions import ledger
from evertune.registry.versions import lineage
from evertune.runs import up_to_date
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Forgotten", "count_lost_rows", "forget_rows", "resume_forgetting"]

WAIT = 5.0  # seconds for a run that is at work
DEAD = 600.0  # seconds after which a half-written file is that of a process that was killed
SHOWN = 10  # ids that a message names
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten, or would be.

    Args:
        rows: row versions by place; known: ids that had been forgotten before.
        files: how many files were changed or removed, by kind; None in a dry run for what is not looked for.
        versions: registered versions that were trained or tested on the rows, or descend from one that was.
        outside: what is out of Evertune's reach.
    """

    rows: dict[str, int]
    known: int
    files: dict[str, int]
    versions: tuple[dict[str, Any], ...]
    outside: tuple[str, ...]
    fresh_start: bool
    dry_run: bool


def forget_rows(
    recipe: Recipe, home: Home, requested: Mapping[str, Iterable[str]], reason: str, *, dry_run: bool = False
) -> Forgotten:
    """Forget rows, all their versions, wherever they are kept; nothing where one of them is not known.

    Args:
        wanted: `id`: ids, or row versions as the quarantine names them; `group`, `text`: values of those.
        reason: goes to the ledger, with counts and no names.
    Raises:
        DataError: nothing has been taken in, an id is not known, or a file cannot be written.
        RegistryError: a run, a backtest, a search or a reproduction is at work, or MLflow does not answer.
    """
    with home.no_jobs_running(WAIT):
        resume_forgetting(home)
        versions = lineage.list_trained_versions(home, recipe.registered_name)
        stones = tombstones.load_tombstones(home) if dry_run else tombstones.load_with_key(home)
        intent, known_count = _plan_intent(recipe, home, requested, stones, reason)
        files = _count_files(home, intent) if dry_run or not intent.versions else _carry_out(home, intent)
        affected_versions = tuple(
            entry for entry in _describe_versions(home, versions, intent) if entry["rows"] or entry["descends"]
        )
        return Forgotten(
            intent.rows,
            known_count,
            files,
            affected_versions,
            tuple(_list_outside(recipe, home)),
            recipe.data.fresh.start_from == "champion",
            dry_run,
        )


def resume_forgetting(home: Home) -> None:
    """Finish what a process that was killed had begun to forget.

    Raises:
        DataError: a file cannot be written.
    """
    if (intent := write_ahead.read_intent(home)) is not None:
        logger.info("rows that a process was killed over are forgotten now")
        _carry_out(home, intent)


def _plan_intent(
    recipe: Recipe, home: Home, requested: Mapping[str, Iterable[str]], stones: Tombstones, reason: str
) -> tuple[Intent, int]:
    """What goes, and how many of the wanted ones went before."""
    names = {kind: {name.strip() for name in raw_names} - {""} for kind, raw_names in requested.items()}
    names["text"] = {fold_text(text) for text in names.get("text", ())}
    digests, matched = _match_subjects(recipe, home, names, stones)
    unknown = [
        (kind, name) for kind, kind_names in names.items() for name in sorted(kind_names) if name not in matched[kind]
    ]
    forgotten_before = [pair for pair in unknown if _was_forgotten(stones, *pair)]
    if missing := [name for kind, name in unknown if (kind, name) not in forgotten_before]:
        shown = ", ".join(missing[:SHOWN])
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise DataError(
            f"{home.name} keeps no row of {len(missing):,} of the {sum(map(len, names.values())):,} that were named: "
            f"{shown}{more}; nothing was forgotten. Take them out and run again; without an id column, name the "
            "row_version that `evertune quarantine --json` shows, or the text itself with --text"
        )
    return _build_intent(recipe, home, Tombstones(stones.key, digests), len(forgotten_before), names, reason), len(
        forgotten_before
    )


def _was_forgotten(stones: Tombstones, kind: str, value: str) -> bool:
    """Whether something of this name was forgotten before; an id may be a row version."""
    kinds = ("id", "row") if kind == "id" else (kind,)
    return any(stones.compute_digest(digest_kind, value) in stones.digests[digest_kind] for digest_kind in kinds)


def _match_subjects(
    recipe: Recipe, home: Home, names: Mapping[str, set[str]], stones: Tombstones
) -> tuple[dict[str, frozenset[str]], dict[str, set[str]]]:
    """The tombstones of the wanted rows, and which names were met. A row is its id; without one, its text."""
    digests: dict[str, set[str]] = {kind: set() for kind in tombstones.KINDS}
    matched: dict[str, set[str]] = {kind: set() for kind in names}
    for _, part in corpus.iterate_all_rows(home):
        for name, kind in (("id", "id"), ("row", "id"), ("group", "group"), ("text", "text")):
            if not names.get(kind):
                continue
            for index, value in enumerate(list_values(part, name)):
                if value in names[kind]:
                    matched[kind].add(value)
                    stone_kind, stone_value = (
                        _identify_row(part, index, recipe) if kind != "group" else ("group", value)
                    )
                    digests[stone_kind].add(stones.compute_digest(stone_kind, stone_value))
                    if kind == "text":
                        digests["text"].add(stones.compute_digest("text", value))
    return {kind: frozenset(kind_digests) for kind, kind_digests in digests.items()}, matched


def _identify_row(part: "pa.Table", index: int, recipe: Recipe) -> tuple[str, str]:
    """The kind and value by which a row is known for ever."""
    row = part.slice(index, 1)
    if (row_id := row["id"][0].as_py()) is not None:
        return "id", row_id
    text = list_values(row, "text")[0]
    if has_id(recipe) or not text:
        return "row", row["row_version"][0].as_py()
    return "text", text


def _build_intent(
    recipe: Recipe, home: Home, stones: Tombstones, count_before: int, names: Mapping[str, set[str]], reason: str
) -> Intent:
    rows = {"corpus": 0, "quarantine": 0, "batches": 0}
    gone_rows = dict[str, Any]()
    versions = list[str]()
    texts = set[str]()
    pictures = set[str]()
    objective = load_objective(recipe.objective.type)
    last = corpus.newest_version(home) if corpus.last_number(home) else 0
    for table, part in corpus.iterate_all_rows(home):
        selected = part.filter(stones.find_forgotten(part)) if any(stones.digests.values()) else part.slice(0, 0)
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
    """The texts that pages are searched for; one that is called as a label is would be found everywhere."""
    labels = {fold_text(label) for label in corpus.known_labels(home)}
    return TextMatcher(
        (text for text in intent.texts if fold_text(text) not in labels), intent.pictures, pieces=intent.pieces
    )


def _count_files(home: Home, intent: Intent) -> dict[str, int]:
    """What a dry run tells of files."""
    if not intent.versions:
        return {"pages": 0, "tokens": 0}
    texts = _build_texts(home, intent)
    paths = [*(path for path, _ in pages.find_pages(home, texts)), *tables.find_tables(home, texts)]
    return {"pages": len(paths), "tokens": len(_find_token_files(home, intent))}


def _carry_out(home: Home, intent: Intent) -> dict[str, int]:
    """Everything that forgetting is, in an order in which any step can be the last one before a crash."""
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
        facts = {"mark": intent.mark, "asked": intent.asked, "rows": intent.rows}
        ledger.append_event(home, "forgotten", who=intent.who, reason=intent.reason, **facts)
    write_ahead.clear_intent(home)
    return {"pages": cleaned, "tokens": len(stale)}


def _find_token_files(home: Home, intent: Intent) -> list[Path]:
    """Token files that hold one of the rows: they are encoded anew when they are needed."""
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
    """Files that processes were writing when they were killed, see `home.write_atomic`."""
    cutoff = time.time() - DEAD
    paths = (path for path in home.model.rglob(".*.????????") if path.is_file())
    return [path for path in paths if path.stat().st_mtime < cutoff]


def _drop_trained(home: Home) -> None:
    """Models of backtests and searches, and checkpoints of trainings that did not end: nothing will go on from them."""
    patterns = (
        "backtests/*/models",
        "backtests/*/compared",
        "searches/*/trials",
        "runs/*/checkpoints",
        "runs/*/processes",
        "reproduced",
    )
    for pattern in patterns:
        for folder in home.model.glob(pattern):
            shutil.rmtree(folder)


def _describe_versions(home: Home, versions: Sequence[lineage.TrainedVersion], intent: Intent) -> list[dict[str, Any]]:
    """Of each registered version how many of the rows it has seen, by split, and those of its forebears that have."""
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


def _list_outside(recipe: Recipe, home: Home) -> Iterable[str]:
    """What Evertune cannot reach, so that a person does."""
    yield "the sources themselves: the rows stand there still, and are left out each time they are read"
    yield "the weights of the versions above: only a model trained anew has not learned from the rows"
    if (uri := lineage.find_external_store(home)) is not None:
        yield f"the reports and input examples in MLflow at {uri}"
    yield f"files that `evertune score` and `evertune quarantine --export` wrote outside of {home.model}"
    yield "backups, and copies that others made"
    yield "Prefect's database: the log of a stopped batch shows some of its refused rows"
    others = sorted(
        folder.parent.name for folder in home.root.glob("models/*/corpus") if folder.parent.name != home.name
    )
    if others:
        yield f"other models of this home: {', '.join(others)}; forget there too what they took in"
