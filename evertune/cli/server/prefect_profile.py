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
    """Return PREFECT_HOME, the folder of Prefect's database and profiles; one `evertune up` at a time uses it."""
    from prefect.settings import PREFECT_HOME

    return Path(PREFECT_HOME.value())


@contextlib.contextmanager
def activate_profile(url: str, key: str) -> Iterator[str]:
    """Activate a profile for the server at `url` within the block, and yield the name of the user's own profile.

    The profile has the settings of the user's own one. PREFECT_PROFILE and PREFECT_API_URL in the environment take
    precedence. From then on only the user can read the file of the profiles.

    Args:
        url: of the API.
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
    """Remove the profile, at the end or after a crash; a profile that the user chose meanwhile stays active."""
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
    """Select the user's own profile where PREFECT_API_URL names a server other than that of `evertune up`.

    Otherwise Prefect would send the key in the profile to that server. Prefect reads its profile when it is imported,
    so this must run before.
    """
    url = os.environ.get("PREFECT_API_URL")
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    note = read_json(home / NOTE)
    if url and note and note.get("url") != url.rstrip("/").replace("//localhost:", "//127.0.0.1:"):
        os.environ.setdefault("PREFECT_PROFILE", note["before"])


def _save(profiles: "ProfilesCollection") -> None:
    """Write the profiles as Prefect does, but atomically and readable by their owner alone: one holds a key."""
    from prefect.settings import PREFECT_PROFILES_PATH, save_profiles, temporary_settings

    path = Path(PREFECT_PROFILES_PATH.value()).resolve()  # a link to a file elsewhere stays one
    with tempfile.TemporaryDirectory() as private:
        scratch = Path(private) / "profiles.toml"
        with temporary_settings({PREFECT_PROFILES_PATH: scratch}):
            save_profiles(profiles)
        write_atomic(path, scratch.read_text(encoding="utf-8"), mode=0o600)


def _note_path() -> Path:
    return prefect_home() / NOTE
