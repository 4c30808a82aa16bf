"""What no run, rollback or trace needs any more, by the recipe's `retention`: listed, and removed if so wished."""

import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from evertune.config import Recipe
from evertune.data.corpus import delta_tables
from evertune.data.corpus.state import load_state
from evertune.models import teachers
from evertune.registry.decisions import ledger, retention
from evertune.registry.versions import versions as model_versions
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.tokenization import token_files, tokenize

DAY = 86_400
WAIT = 2.0  # seconds for one that is at work
KeptVersions = Mapping[int, str]  # versions that stay whole, and why
GOING = ".going"  # folder that what is removed is moved to first: a crash leaves it there whole, or here


@dataclass(frozen=True)
class RemovableItem:
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

    spare: tuple[RemovableItem, ...]
    kept: dict[int, str]


def clean_home(recipe: Recipe, home: Home, *, remove: bool) -> Cleaning:
    """What `retention` lets go; removed if so wished. It is safe to repeat after a crash.

    Raises:
        RegistryError: a run, a backtest, a search or a reproduction is at work, or MLflow does not answer.
        DataError: files of the corpus cannot be removed.
        OSError: other files cannot be removed.
    """
    with home.no_jobs_running(WAIT):
        if remove:
            shutil.rmtree(home.model / GOING, ignore_errors=True)
        kept_versions = retention.find_kept_versions(recipe, home, int(_cutoff_time(recipe) * 1000))
        items = [
            *_clean_versions(recipe, home, kept_versions, remove),
            *_clean_folders(recipe, home, kept_versions, remove),
        ]
        items += _clean_tables(recipe, home, remove)
        if remove and items:
            versions = [int(item.name.removeprefix("version ")) for item in items if item.what == "model"]
            ledger.append_event(
                home,
                "cleaned",
                versions=versions,
                bytes=sum(item.bytes for item in items),
                reason=f"{len(items)} things that no run needs any more",
            )
        return Cleaning(tuple(items), dict(sorted(kept_versions.items())))


def _cutoff_time(recipe: Recipe) -> float:
    return time.time() - recipe.retention.days * DAY


def _clean_versions(recipe: Recipe, home: Home, kept_versions: KeptVersions, remove: bool) -> Iterator[RemovableItem]:
    if not ledger.has_versions(home):
        return
    old_versions = list(retention.find_removable(recipe, home, int(_cutoff_time(recipe) * 1000), kept_versions))
    if remove:
        retention.remove_files(recipe, home, [version.version for version in old_versions])
    why = "no alias, never champion, not among the newest, nobody else's"
    for version in old_versions:
        yield RemovableItem("model", f"version {version.version}", why, version.files, version.bytes)


def _clean_folders(recipe: Recipe, home: Home, kept_versions: KeptVersions, remove: bool) -> Iterator[RemovableItem]:
    """Folders and files of the home that nobody will read."""
    for what, why, paths in (
        ("run", "neither of a version that stays nor among the newest", _find_old_runs(recipe, home, kept_versions)),
        ("fetched model", "of no version that stays", _find_old_fetches(recipe, home, kept_versions)),
        ("token files", "of another tokenizer, encoding or library", _find_other_tokens(recipe, home)),
        ("token file", "its rows stand in the file of its group too", _find_joined_tokens(recipe, home)),
        ("data docs", "of a batch that is concluded", _find_old_docs(home)),
        ("monitor", "older than retention.days", home.monitors.glob("*/")),
        ("backtest", "older than retention.days", (home.model / "backtests").glob("*/")),
        ("search", "older than retention.days", (home.model / "searches").glob("*/")),
        ("reproduction", "it did not end, and is older than retention.days", (home.model / "reproduced").glob("*/")),
    ):
        for path in sorted(_select_aged(paths, _cutoff_time(recipe))):
            files = [file.stat().st_size for file in _list_files(path)]
            yield RemovableItem(what, str(path.relative_to(home.model)), why, len(files), sum(files))
            if remove:
                _remove_path(home, path)


def _remove_path(home: Home, path: Path) -> None:
    target = home.model / GOING / uuid.uuid4().hex
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    (shutil.rmtree if target.is_dir() else Path.unlink)(target)


def _select_aged(paths: Iterable[Path], before: float) -> Iterator[Path]:
    """Those in which nothing was written since; of a folder its own files count."""
    for path in paths:
        times = [file.stat().st_mtime for file in ([path, *path.iterdir()] if path.is_dir() else [path])]
        if max(times) <= before:
            yield path


def _list_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _find_old_runs(recipe: Recipe, home: Home, kept_versions: KeptVersions) -> Iterator[Path]:
    folders = sorted(home.runs.glob("*/"), key=lambda path: path.stat().st_mtime)
    registered = model_versions.list_versions(home, recipe.registered_name)
    teacher = teachers.teacher_folder(recipe)
    runs = {version.run_id for version in registered if int(version.version) in kept_versions}
    for folder in folders[: -recipe.retention.runs]:
        is_teacher = teacher is not None and teacher.is_relative_to(folder.resolve())
        if not is_teacher and (read_json(folder / "run.json") or {"run_id": None})["run_id"] not in runs:
            yield folder


def _find_old_fetches(recipe: Recipe, home: Home, kept_versions: KeptVersions) -> Iterator[Path]:
    registered = model_versions.list_versions(home, recipe.registered_name) if (home.model / "fetched").exists() else []
    digests = {version.tags.get("evertune.bundle") for version in registered if int(version.version) in kept_versions}
    yield from (folder for folder in (home.model / "fetched").glob("*/") if folder.name not in digests)


def _find_other_tokens(recipe: Recipe, home: Home) -> Iterator[Path]:
    own = tokenize.fingerprint_tokens(recipe)
    yield from (folder for folder in home.tokens.glob("*/") if folder.name != own)


def _find_joined_tokens(recipe: Recipe, home: Home) -> Iterator[Path]:
    yield from token_files.find_joined_files(home.tokens / tokenize.fingerprint_tokens(recipe))


def _find_old_docs(home: Home) -> Iterator[Path]:
    last_batch = load_state(home).concluded_batch
    yield from (folder for folder in home.data_docs.glob("*/") if int(folder.name) <= last_batch)


def _clean_tables(recipe: Recipe, home: Home, remove: bool) -> Iterator[RemovableItem]:
    """Files of both tables whose rows stand in newer files."""
    days = recipe.retention.days
    why = "its rows stand in newer files; every version of the table stays readable"
    with home.lock("corpus"):
        for table in (home.corpus, home.quarantine):
            sizes = [path.stat().st_size for path in delta_tables.vacuum_table(table, days, remove=False)]
            if sizes:
                yield RemovableItem("old files", table.name, why, len(sizes), sum(sizes))
            if sizes and remove:
                delta_tables.vacuum_table(table, days, remove=True)
