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

from evertune.audit.forgetting import pages, subjects, tables
from evertune.audit.forgetting import write_ahead as intents
from evertune.audit.forgetting.write_ahead import Intent, lost
from evertune.config import Recipe
from evertune.data.corpus import tombstones
from evertune.data.corpus import transactions as corpus
from evertune.data.corpus.tombstones import Tombstones, values
from evertune.data.row_versions import has_id
from evertune.data.text_matching import Texts, folded
from evertune.errors import DataError
from evertune.objectives import module
from evertune.registry.decisions import ledger
from evertune.registry.versions import lineage
from evertune.runs import up_to_date as conclusion
from evertune.runtime.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Forgotten", "forget", "lost", "resume"]

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


def forget(
    recipe: Recipe, home: Home, wanted: Mapping[str, Iterable[str]], reason: str, *, dry_run: bool = False
) -> Forgotten:
    """Forget rows, all their versions, wherever they are kept; nothing where one of them is not known.

    Args:
        wanted: `id`: ids, or row versions as the quarantine names them; `group`, `text`: values of those.
        reason: goes to the ledger, with counts and no names.
    Raises:
        DataError: nothing has been taken in, an id is not known, or a file cannot be written.
        RegistryError: a run, a backtest, a search or a reproduction is at work, or MLflow does not answer.
    """
    with home.still(WAIT):
        resume(home)
        versions = lineage.learned(home, recipe.registered_name)
        stones = tombstones.load(home) if dry_run else tombstones.with_key(home)
        found, known = _found(recipe, home, wanted, stones, reason)
        files = _files(home, found) if dry_run or not found.versions else _finished(home, found)
        told = tuple(one for one in _told(home, versions, found) if one["rows"] or one["descends"])
        return Forgotten(
            found.rows, known, files, told, tuple(_outside(recipe, home)),
            recipe.data.fresh.start_from == "champion", dry_run,
        )  # fmt: skip


def resume(home: Home) -> None:
    """Finish what a process that was killed had begun to forget.

    Raises:
        DataError: a file cannot be written.
    """
    if (begun := intents.read(home)) is not None:
        logger.info("rows that a process was killed over are forgotten now")
        _finished(home, begun)


def _found(
    recipe: Recipe, home: Home, wanted: Mapping[str, Iterable[str]], stones: Tombstones, reason: str
) -> tuple[Intent, int]:
    """What goes, and how many of the wanted ones went before."""
    asked = {kind: {one.strip() for one in given} - {""} for kind, given in wanted.items()}
    asked["text"] = {folded(one) for one in asked.get("text", ())}
    digests, met = _subjects(recipe, home, asked, stones)
    unknown = [(kind, one) for kind, given in asked.items() for one in sorted(given) if one not in met[kind]]
    before = [one for one in unknown if _stands(stones, *one)]
    if lacking := [one for kind, one in unknown if (kind, one) not in before]:
        shown, more = ", ".join(lacking[:SHOWN]), f" and {len(lacking) - SHOWN:,} more" if len(lacking) > SHOWN else ""
        raise DataError(
            f"{home.name} keeps no row of {len(lacking):,} of the {sum(map(len, asked.values())):,} that were named: "
            f"{shown}{more}; nothing was forgotten. Take them out and run again; without an id column, name the "
            "row_version that `evertune quarantine --json` shows, or the text itself with --text"
        )
    return _intent(recipe, home, Tombstones(stones.key, digests), len(before), asked, reason), len(before)


def _stands(stones: Tombstones, kind: str, value: str) -> bool:
    """Whether something of this name was forgotten before; an id may be a row version."""
    kinds = ("id", "row") if kind == "id" else (kind,)
    return any(stones.digest(one, value) in stones.digests[one] for one in kinds)


def _subjects(
    recipe: Recipe, home: Home, asked: Mapping[str, set[str]], stones: Tombstones
) -> tuple[dict[str, frozenset[str]], dict[str, set[str]]]:
    """The tombstones of the wanted rows, and which names were met. A row is its id; without one, its text."""
    digests: dict[str, set[str]] = {kind: set() for kind in tombstones.KINDS}
    met: dict[str, set[str]] = {kind: set() for kind in asked}
    for _, part in corpus.everywhere(home):
        for name, kind in (("id", "id"), ("row", "id"), ("group", "group"), ("text", "text")):
            if not asked.get(kind):
                continue
            for place, value in enumerate(values(part, name)):
                if value in asked[kind]:
                    met[kind].add(value)
                    own, told = _subject(part, place, recipe) if kind != "group" else ("group", value)
                    digests[own].add(stones.digest(own, told))
                    if kind == "text":
                        digests["text"].add(stones.digest("text", value))
    return {kind: frozenset(found) for kind, found in digests.items()}, met


def _subject(part: "pa.Table", place: int, recipe: Recipe) -> tuple[str, str]:
    """The kind and value by which a row is known for ever."""
    row = part.slice(place, 1)
    if (given := row["id"][0].as_py()) is not None:
        return "id", given
    text = values(row, "text")[0]
    if has_id(recipe) or not text:
        return "row", row["row_version"][0].as_py()
    return "text", text


def _intent(
    recipe: Recipe, home: Home, stones: Tombstones, before: int, asked: Mapping[str, set[str]], reason: str
) -> Intent:
    rows, gone = {"corpus": 0, "quarantine": 0, "batches": 0}, dict[str, Any]()
    versions, texts, pictures = list[str](), set[str](), set[str]()
    objective = module(recipe.objective.type)
    last = corpus.newest_version(home) if corpus.last_number(home) else 0
    for place, part in corpus.everywhere(home):
        some = part.filter(stones.on(part)) if any(stones.digests.values()) else part.slice(0, 0)
        rows[place] += len(some)
        versions += some["row_version"].to_pylist()
        texts.update(subjects.texts(some, objective))
        pictures.update(subjects.pictures(some, objective))
        if place == "corpus":
            for row in some.select(["row_key", "batch", "split"]).to_pylist():
                key = stones.digest("row", row["row_key"])
                batch = min(row["batch"], gone[key][1]) if key in gone else row["batch"]
                gone[key] = (key, batch, row["split"], last)
    return Intent(
        mark=uuid.uuid4().hex[:12], time=datetime.now(UTC).isoformat(timespec="seconds"), who=ledger.who(),
        reason=reason, asked=sum(map(len, asked.values())) - before, rows=rows, gone=list(gone.values()),
        digests={kind: sorted(found) for kind, found in stones.digests.items()}, versions=versions, texts=sorted(texts),
        pieces=subjects.in_pieces(objective), pictures=sorted(pictures),
    )  # fmt: skip


def _texts(home: Home, found: Intent) -> Texts:
    """The texts that pages are searched for; one that is called as a label is would be found everywhere."""
    labels = {folded(one) for one in corpus.known_labels(home)}
    return Texts((one for one in found.texts if folded(one) not in labels), found.pictures, pieces=found.pieces)


def _files(home: Home, found: Intent) -> dict[str, int]:
    """What a dry run tells of files."""
    if not found.versions:
        return {"pages": 0, "tokens": 0}
    texts = _texts(home, found)
    shown = [*(path for path, _ in pages.showing(home, texts)), *tables.showing(home, texts)]
    return {"pages": len(shown), "tokens": len(_token_files(home, found))}


def _finished(home: Home, found: Intent) -> dict[str, int]:
    """Everything that forgetting is, in an order in which any step can be the last one before a crash."""
    intents.write(home, found)
    stones = tombstones.add(home, found.digests)
    texts = _texts(home, found)
    cleaned = pages.clean(home, texts) + tables.clean(home, texts)
    stale = _token_files(home, found)
    for path in [*stale, *home.tokens.glob("*/*.part"), *_scratch(home)]:
        path.unlink(missing_ok=True)
    _drop_trained(home)
    corpus.remove(home, stones.on)
    intents.keep_gone(home, found.gone)
    if found.gone:
        conclusion.void(home)
    if not any(one.get("mark") == found.mark for one in ledger.entries(home)):
        facts = {"mark": found.mark, "asked": found.asked, "rows": found.rows}
        ledger.append(home, "forgotten", who=found.who, reason=found.reason, **facts)
    intents.done(home)
    return {"pages": cleaned, "tokens": len(stale)}


def _token_files(home: Home, found: Intent) -> list[Path]:
    """Token files that hold one of the rows: they are encoded anew when they are needed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    gone, stale = pa.array(found.versions, pa.string()), []
    for path in sorted(home.tokens.glob("*/*.arrow")):
        with pa.memory_map(str(path)) as source:
            known = pa.ipc.open_stream(source).read_all()["row_version"]
            if pc.any(pc.is_in(known, value_set=gone)).as_py():
                stale.append(path)
    return stale


def _scratch(home: Home) -> list[Path]:
    """Files that processes were writing when they were killed, see `home.write_atomic`."""
    then = time.time() - DEAD
    found = (path for path in home.model.rglob(".*.????????") if path.is_file())
    return [path for path in found if path.stat().st_mtime < then]


def _drop_trained(home: Home) -> None:
    """Models of backtests and searches, and checkpoints of trainings that did not end: nothing will go on from them."""
    patterns = (
        "backtests/*/models", "backtests/*/compared", "searches/*/trials", "runs/*/checkpoints", "runs/*/processes",
        "reproduced",
    )  # fmt: skip
    for pattern in patterns:
        for folder in home.model.glob(pattern):
            shutil.rmtree(folder)


def _told(home: Home, versions: Sequence[lineage.Learned], found: Intent) -> list[dict[str, Any]]:
    """Of each registered version how many of the rows it has seen, by split, and those of its forebears that have."""
    seen = {one.version: lost(home, one.snapshot, corpus.batch_of(home, one.snapshot), found.gone) for one in versions}
    return [
        {
            "version": one.version, "aliases": list(one.aliases), "rows": seen[one.version],
            "descends": [version for version in lineage.forebears(versions, one.version) if seen.get(version)],
        }
        for one in versions
    ]  # fmt: skip


def _outside(recipe: Recipe, home: Home) -> Iterable[str]:
    """What Evertune cannot reach, so that a person does."""
    yield "the sources themselves: the rows stand there still, and are left out each time they are read"
    yield "the weights of the versions above: only a model trained anew has not learned from the rows"
    if (uri := lineage.elsewhere(home)) is not None:
        yield f"the reports and input examples in MLflow at {uri}"
    yield f"files that `evertune score` and `evertune quarantine --export` wrote outside of {home.model}"
    yield "backups, and copies that others made"
    yield "Prefect's database: the log of a stopped batch shows some of its refused rows"
    others = sorted(one.parent.name for one in home.root.glob("models/*/corpus") if one.parent.name != home.name)
    if others:
        yield f"other models of this home: {', '.join(others)}; forget there too what they took in"
