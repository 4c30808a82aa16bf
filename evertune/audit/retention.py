"""What no run, rollback or trace needs any more, by the recipe's `retention`: listed, and removed if so wished."""

import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from evertune.config import Recipe
from evertune.data.corpus import delta_tables
from evertune.models import teachers
from evertune.registry.decisions import ledger, retention
from evertune.registry.versions import versions as models
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.tokenization import token_files
from evertune.tokenization import tokenize as tokenization

DAY = 86_400
WAIT = 2.0  # seconds for one that is at work
Stays = Mapping[int, str]  # versions that stay whole, and why
GOING = ".going"  # folder that what is removed is moved to first: a crash leaves it there whole, or here


@dataclass(frozen=True)
class Spare:
    """Something that may go.

    Args:
        what: its kind; name: which one; why: it may go.
    """

    what: str
    name: str
    why: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Cleaning:
    """What goes, and which versions stay whole, each with the reason."""

    spare: tuple[Spare, ...]
    kept: dict[int, str]


def clean(recipe: Recipe, home: Home, *, remove: bool) -> Cleaning:
    """What `retention` lets go; removed if so wished. It is safe to repeat after a crash.

    Raises:
        RegistryError: a run, a backtest, a search or a reproduction is at work, or MLflow does not answer.
        DataError: files of the corpus cannot be removed.
        OSError: other files cannot be removed.
    """
    with home.still(WAIT):
        if remove:
            shutil.rmtree(home.model / GOING, ignore_errors=True)
        stays = retention.kept(recipe, home, int(_before(recipe) * 1000))
        found = [*_versions(recipe, home, stays, remove), *_folders(recipe, home, stays, remove)]
        found += _tables(recipe, home, remove)
        if remove and found:
            versions = [int(one.name.removeprefix("version ")) for one in found if one.what == "model"]
            ledger.append(home, "cleaned", versions=versions, bytes=sum(one.bytes for one in found),
                          reason=f"{len(found)} things that no run needs any more")  # fmt: skip
        return Cleaning(tuple(found), dict(sorted(stays.items())))


def _before(recipe: Recipe) -> float:
    return time.time() - recipe.retention.days * DAY


def _versions(recipe: Recipe, home: Home, stays: Stays, remove: bool) -> Iterator[Spare]:
    if not ledger.knows_versions(home):
        return
    found = list(retention.old(recipe, home, int(_before(recipe) * 1000), stays))
    if remove:
        retention.remove(recipe, home, [one.version for one in found])
    why = "no alias, never champion, not among the newest, nobody else's"
    for one in found:
        yield Spare("model", f"version {one.version}", why, one.files, one.bytes)


def _folders(recipe: Recipe, home: Home, stays: Stays, remove: bool) -> Iterator[Spare]:
    """Folders and files of the home that nobody will read."""
    for what, why, paths in (
        ("run", "neither of a version that stays nor among the newest", _runs(recipe, home, stays)),
        ("fetched model", "of no version that stays", _fetched(recipe, home, stays)),
        ("token files", "of another tokenizer, encoding or library", _other_tokens(recipe, home)),
        ("token file", "its rows stand in the file of its group too", _joined_tokens(recipe, home)),
        ("data docs", "of a batch that is concluded", _docs(home)),
        ("monitor", "older than retention.days", home.monitors.glob("*/")),
        ("backtest", "older than retention.days", (home.model / "backtests").glob("*/")),
        ("search", "older than retention.days", (home.model / "searches").glob("*/")),
        ("reproduction", "it did not end, and is older than retention.days", (home.model / "reproduced").glob("*/")),
    ):
        for path in sorted(_aged(paths, _before(recipe))):
            files = [one.stat().st_size for one in _files(path)]
            yield Spare(what, str(path.relative_to(home.model)), why, len(files), sum(files))
            if remove:
                _remove(home, path)


def _remove(home: Home, path: Path) -> None:
    place = home.model / GOING / uuid.uuid4().hex
    place.parent.mkdir(exist_ok=True)
    path.rename(place)
    (shutil.rmtree if place.is_dir() else Path.unlink)(place)


def _aged(paths: Iterable[Path], before: float) -> Iterator[Path]:
    """Those in which nothing was written since; of a folder its own files count."""
    for path in paths:
        times = [one.stat().st_mtime for one in ([path, *path.iterdir()] if path.is_dir() else [path])]
        if max(times) <= before:
            yield path


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]


def _runs(recipe: Recipe, home: Home, stays: Stays) -> Iterator[Path]:
    begun = sorted(home.runs.glob("*/"), key=lambda one: one.stat().st_mtime)
    known, teacher = models.versions(home, recipe.registered_name), teachers.folder(recipe)
    runs = {one.run_id for one in known if int(one.version) in stays}
    for folder in begun[: -recipe.retention.runs]:
        taught = teacher is not None and teacher.is_relative_to(folder.resolve())
        if not taught and (read_json(folder / "run.json") or {"run_id": None})["run_id"] not in runs:
            yield folder


def _fetched(recipe: Recipe, home: Home, stays: Stays) -> Iterator[Path]:
    known = models.versions(home, recipe.registered_name) if (home.model / "fetched").exists() else []
    digests = {one.tags.get("evertune.bundle") for one in known if int(one.version) in stays}
    yield from (one for one in (home.model / "fetched").glob("*/") if one.name not in digests)


def _other_tokens(recipe: Recipe, home: Home) -> Iterator[Path]:
    own = tokenization.fingerprint(recipe)
    yield from (one for one in home.tokens.glob("*/") if one.name != own)


def _joined_tokens(recipe: Recipe, home: Home) -> Iterator[Path]:
    yield from token_files.joined(home.tokens / tokenization.fingerprint(recipe))


def _docs(home: Home) -> Iterator[Path]:
    done = ((read_json(home.state) or {}).get("concluded") or {}).get("batch", 0)
    yield from (one for one in home.data_docs.glob("*/") if int(one.name) <= done)


def _tables(recipe: Recipe, home: Home, remove: bool) -> Iterator[Spare]:
    """Files of both tables whose rows stand in newer files."""
    days, why = recipe.retention.days, "its rows stand in newer files; every version of the table stays readable"
    with home.lock("corpus"):
        for table in (home.corpus, home.quarantine):
            sizes = [one.stat().st_size for one in delta_tables.spare(table, days, remove=False)]
            if sizes:
                yield Spare("old files", table.name, why, len(sizes), sum(sizes))
            if sizes and remove:
                delta_tables.spare(table, days, remove=True)
