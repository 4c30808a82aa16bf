"""Find, and optionally remove, what no run, rollback or trace needs any more, by the recipe's `retention`."""

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
from evertune.runtime.context import RunContext
from evertune.runtime.files import read_json
from evertune.runtime.home import Home
from evertune.tokenization import token_files, tokenize

DAY = 86_400
WAIT = 2.0  # seconds to wait for a running job
KeptVersions = Mapping[int, str]  # versions that keep their files, and why
GOING = ".going"  # folder that an item is moved to before it is removed, so that a crash leaves it whole or gone


@dataclass(frozen=True)
class RemovableItem:
    """Something that may be removed.

    Args:
        what: its kind.
        name: which one of the kind.
        why: it may be removed.
        files, bytes: number and size of its files.
    """

    what: str
    name: str
    why: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Cleaning:
    """What may be removed or was removed, and which versions keep their files, each with the reason."""

    spare: tuple[RemovableItem, ...]
    kept: dict[int, str]


def clean_home(context: RunContext, *, remove: bool) -> Cleaning:
    """Return what `retention` allows to remove, and remove it if `remove` is set; safe to repeat after a crash.

    Raises:
        RegistryError: a run, a backtest, a search or a reproduction is in progress, or MLflow does not answer.
        DataError: files of the corpus cannot be removed.
        OSError: other files cannot be removed.
    """
    with context.home.no_jobs_running(WAIT):
        if remove:
            shutil.rmtree(context.home.model / GOING, ignore_errors=True)
        kept_versions = retention.find_kept_versions(context, int(_cutoff_time(context.recipe) * 1000))
        items = [
            *_clean_versions(context, kept_versions, remove),
            *_clean_folders(context, kept_versions, remove),
        ]
        items += _clean_tables(context, remove)
        if remove and items:
            versions = [int(item.name.removeprefix("version ")) for item in items if item.what == "model"]
            ledger.append_event(
                context.home,
                "cleaned",
                versions=versions,
                bytes=sum(item.bytes for item in items),
                reason=f"removed {len(items)} items that no run needs any more",
            )
        return Cleaning(tuple(items), dict(sorted(kept_versions.items())))


def _cutoff_time(recipe: Recipe) -> float:
    return time.time() - recipe.retention.days * DAY


def _clean_versions(context: RunContext, kept_versions: KeptVersions, remove: bool) -> Iterator[RemovableItem]:
    if not ledger.has_versions(context.home):
        return
    old_versions = list(retention.find_removable(context, int(_cutoff_time(context.recipe) * 1000), kept_versions))
    if remove:
        retention.remove_files(context, [version.version for version in old_versions])
    why = "no alias, never champion, not among the newest, shares no files"
    for version in old_versions:
        yield RemovableItem("model", f"version {version.version}", why, version.files, version.bytes)


def _clean_folders(context: RunContext, kept_versions: KeptVersions, remove: bool) -> Iterator[RemovableItem]:
    """Yield the folders and files of the home that nothing reads any more, and remove them if `remove` is set."""
    for what, why, paths in (
        ("run", "not of a version that is kept, not among the newest", _find_old_runs(context, kept_versions)),
        ("fetched model", "not of a version that is kept", _find_old_fetches(context, kept_versions)),
        ("token files", "of another tokenizer, encoding or library", _find_other_tokens(context)),
        ("token file", "its rows are also in the file of its group", _find_joined_tokens(context)),
        ("data docs", "of a batch that is concluded", _find_old_docs(context.home)),
        ("monitor", "older than retention.days", context.home.monitors.glob("*/")),
        ("backtest", "older than retention.days", (context.home.model / "backtests").glob("*/")),
        ("search", "older than retention.days", (context.home.model / "searches").glob("*/")),
        ("reproduction", "did not end, older than retention.days", (context.home.model / "reproduced").glob("*/")),
    ):
        for path in sorted(_select_aged(paths, _cutoff_time(context.recipe))):
            files = [file.stat().st_size for file in _list_files(path)]
            yield RemovableItem(what, str(path.relative_to(context.home.model)), why, len(files), sum(files))
            if remove:
                _remove_path(context.home, path)


def _remove_path(home: Home, path: Path) -> None:
    target = home.model / GOING / uuid.uuid4().hex
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()


def _select_aged(paths: Iterable[Path], before: float) -> Iterator[Path]:
    """Yield the paths that were not written to since then; of a folder, its direct entries count."""
    for path in paths:
        entries = [path, *path.iterdir()] if path.is_dir() else [path]
        if max(entry.stat().st_mtime for entry in entries) <= before:
            yield path


def _list_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _find_old_runs(context: RunContext, kept_versions: KeptVersions) -> Iterator[Path]:
    folders = sorted(context.home.runs.glob("*/"), key=lambda path: path.stat().st_mtime)
    registered = model_versions.list_versions(context.home, context.recipe.registered_name)
    teacher = teachers.teacher_folder(context.recipe)
    runs = {version.run_id for version in registered if int(version.version) in kept_versions}
    for folder in folders[: -context.recipe.retention.runs]:
        is_teacher = teacher is not None and teacher.is_relative_to(folder.resolve())
        if not is_teacher and (read_json(folder / "run.json") or {"run_id": None})["run_id"] not in runs:
            yield folder


def _find_old_fetches(context: RunContext, kept_versions: KeptVersions) -> Iterator[Path]:
    registered = (
        model_versions.list_versions(context.home, context.recipe.registered_name)
        if (context.home.model / "fetched").exists()
        else []
    )
    digests = {version.tags.get("evertune.bundle") for version in registered if int(version.version) in kept_versions}
    yield from (folder for folder in (context.home.model / "fetched").glob("*/") if folder.name not in digests)


def _find_other_tokens(context: RunContext) -> Iterator[Path]:
    own = tokenize.fingerprint_tokens(context.recipe)
    yield from (folder for folder in context.home.tokens.glob("*/") if folder.name != own)


def _find_joined_tokens(context: RunContext) -> Iterator[Path]:
    yield from token_files.find_joined_files(context.home.tokens / tokenize.fingerprint_tokens(context.recipe))


def _find_old_docs(home: Home) -> Iterator[Path]:
    last_batch = load_state(home).concluded_batch
    yield from (folder for folder in home.data_docs.glob("*/") if int(folder.name) <= last_batch)


def _clean_tables(context: RunContext, remove: bool) -> Iterator[RemovableItem]:
    """Yield the files of both tables whose rows are also in newer files, and remove them if `remove` is set."""
    days = context.recipe.retention.days
    why = "its rows are in newer files; every version of the table stays readable"
    with context.home.lock("corpus"):
        for table in (context.home.corpus, context.home.quarantine):
            sizes = [path.stat().st_size for path in delta_tables.vacuum_table(table, days, remove=False)]
            if sizes:
                yield RemovableItem("old files", table.name, why, len(sizes), sum(sizes))
            if sizes and remove:
                delta_tables.vacuum_table(table, days, remove=True)
