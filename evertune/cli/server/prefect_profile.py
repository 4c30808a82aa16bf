"""The Prefect profile that lets Prefect's own commands find the server while `evertune up` runs."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.runtime.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from prefect.settings import ProfilesCollection

NAME = "evertune"
NOTE = "evertune-profile.json"


def prefect_home() -> Path:
    """PREFECT_HOME: Prefect's database and profiles; one `evertune up` at a time uses it."""
    from prefect.settings import PREFECT_HOME

    return Path(PREFECT_HOME.value())


@contextlib.contextmanager
def activate_profile(url: str, key: str) -> Iterator[str]:
    """Make a profile for the server at `url` the active one, at the end the user's own again; yields that one's name.

    It has the own one's settings; PREFECT_PROFILE and PREFECT_API_URL in the environment come before it. From then on
    only its owner can read the file of the profiles.

    Args:
        key: of the server.
    """
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, load_profiles
    from prefect.settings.profiles import Profile

    profiles = load_profiles(include_defaults=True)
    previous_name = profiles.active_name or "ephemeral"
    write_json(_note_path(), {"before": previous_name, "url": url})
    user_profile = profiles.profiles_by_name.get(previous_name)
    settings = {**(user_profile.settings if user_profile else {}), PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: key}
    profiles.profiles_by_name[NAME] = Profile(name=NAME, settings=settings)
    profiles.active_name = NAME
    _save(profiles)
    try:
        yield previous_name
    finally:
        restore_profile()


def restore_profile() -> None:
    """Take the profile away, at the end or after a crash; a profile that the user chose meanwhile stays active."""
    from prefect.settings import load_profiles

    note = read_json(_note_path())
    if note is None:
        return
    profiles = load_profiles(include_defaults=True)
    if profiles.active_name == NAME:
        profiles.active_name = note["before"]
    profiles.profiles_by_name.pop(NAME, None)
    _save(profiles)
    _note_path().unlink()


def keep_key_from_others() -> None:
    """Have Prefect read the user's own profile where PREFECT_API_URL names another server than that of `evertune up`.

    Prefect would send the key in the profile to whatever server PREFECT_API_URL names. It reads its profile once, when
    it is imported, so this comes before that.
    """
    url = os.environ.get("PREFECT_API_URL")
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    note = read_json(home / NOTE)
    if url and note and note.get("url") != url.rstrip("/").replace("//localhost:", "//127.0.0.1:"):
        os.environ.setdefault("PREFECT_PROFILE", note["before"])


def _save(profiles: "ProfilesCollection") -> None:
    """Write them as Prefect does, but whole, and readable by their owner alone: one of them holds a key."""
    from prefect.settings import PREFECT_PROFILES_PATH, save_profiles, temporary_settings

    path = Path(PREFECT_PROFILES_PATH.value()).resolve()  # a link to a file elsewhere stays one
    with tempfile.TemporaryDirectory() as private:
        scratch = Path(private) / "profiles.toml"
        with temporary_settings({PREFECT_PROFILES_PATH: scratch}):
            save_profiles(profiles)
        write_atomic(path, scratch.read_text(encoding="utf-8"), mode=0o600)


def _note_path() -> Path:
    return prefect_home() / NOTE
