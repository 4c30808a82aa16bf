"""Where state is kept: one home folder a project, with one folder for each recipe's model."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import ConfigError, RegistryError
from evertune.runtime.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from evertune.config import Recipe


JOB_LOCKS = ("search", "backtest", "reproduce", "run")  # of jobs that take minutes; a run's lock is taken last


@dataclass(frozen=True)
class Home:
    """Folders of one model's state. Nothing is created until something is written.

    Args:
        root: the home shared by all recipes of a project.
        name: the recipe's name.
    """

    root: Path
    name: str

    @property
    def model(self) -> Path:
        return self.root / "models" / self.name

    @property
    def corpus(self) -> Path:
        return self.model / "corpus"

    @property
    def quarantine(self) -> Path:
        return self.model / "quarantine"

    @property
    def reviews(self) -> Path:
        return self.model / "reviews"

    @property
    def batches(self) -> Path:
        return self.model / "batches"

    @property
    def data_docs(self) -> Path:
        return self.model / "data_docs"

    @property
    def tokens(self) -> Path:
        return self.model / "tokens"

    @property
    def runs(self) -> Path:
        return self.model / "runs"

    @property
    def monitors(self) -> Path:
        return self.model / "monitors"

    @property
    def forgotten(self) -> Path:
        return self.model / "forgotten"

    @property
    def ledger(self) -> Path:
        return self.model / "ledger.jsonl"

    @property
    def state(self) -> Path:
        return self.model / "state.json"

    def load_identity(self) -> str:
        """Return the random name of this home, made on first use, so that results of a deleted home never match."""
        path = self.root / "identity"
        if not path.exists():
            with self.lock("home"):
                if not path.exists():
                    write_atomic(path, uuid.uuid4().hex)
        return path.read_text().strip()

    @contextlib.contextmanager
    def lock(self, lock_name: str, timeout: float = 60.0, *, noted: bool = False) -> Iterator[None]:
        """Hold a lock of this model; it is free again when its holder's process ends, however that ends.

        Args:
            lock_name: such as `run`; `home` is one lock for all recipes of the home.
            timeout: seconds to wait for another holder.
            noted: record who holds the lock, for the error messages of others; for jobs that take minutes.
        Raises:
            RegistryError: another process held the lock for all that time.
            ConfigError: the folder is not writable.
        """
        lock = self._acquire_lock(self.root if lock_name == "home" else self.model, lock_name, timeout)
        try:
            if noted:
                note_holder(Path(lock.lock_file), self.name)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def no_jobs_running(self, timeout: float) -> Iterator[None]:
        """Hold all job locks of this model, so that no job reads files that are about to be removed.

        Args:
            timeout: seconds to wait for each job.
        Raises:
            RegistryError: a job ran for longer.
        """
        with contextlib.ExitStack() as stack:
            for lock_name in JOB_LOCKS:
                stack.enter_context(self.lock(lock_name, timeout))
            yield

    def _acquire_lock(self, folder: Path, lock_name: str, timeout: float) -> "BaseFileLock":
        import filelock

        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(folder / f"{lock_name}.lock", timeout=timeout)
            lock.acquire()
        except filelock.Timeout as error:
            holder_text = read_holder(folder / f"{lock_name}.lock") or "find it with `ps aux | grep evertune`"
            raise RegistryError(
                f"another process has held the {lock_name} lock of {self.name} for {timeout:.0f} s; "
                f"wait until it ends ({holder_text})"
            ) from error
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise ConfigError(
                f"{folder}: Evertune cannot write there ({error.strerror or error}); "
                "set EVERTUNE_HOME to another folder, or change its permissions"
            ) from error
        return lock


def find_home(folder: Path) -> Path:
    """Return EVERTUNE_HOME, else `.evertune` in the nearest folder at or above `folder` with `.evertune` or `.git`."""
    if os.environ.get("EVERTUNE_HOME"):
        return Path(os.environ["EVERTUNE_HOME"]).expanduser().resolve()
    folder = folder.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / ".evertune").is_dir() or (candidate / ".git").exists():
            return candidate / ".evertune"
    return folder / ".evertune"


def note_holder(lock: Path, recipe: str) -> None:
    """Record that this process holds a lock, for the messages of those that wait.

    Args:
        lock: its file.
        recipe: name of the recipe.
    """
    path = _holder_path(lock)
    write_json(path, {"recipe": recipe, "pid": os.getpid(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"})
    path.chmod(0o644)  # another user may wait for it


def read_holder(lock: Path) -> str | None:
    """Return which recipe's process held the lock last, in words; None if none was recorded.

    Args:
        lock: its file.
    """
    record = read_json(_holder_path(lock))
    if record is None:
        return None
    return f"recipe {record['recipe']}, process {record['pid']}, since {record['since']} UTC"


def _holder_path(lock: Path) -> Path:
    return lock.with_suffix(".holder.json")


def home_of(recipe: "Recipe") -> Home:
    """Return the home of a recipe's model."""
    return Home(find_home(recipe.folder), recipe.name)
