"""The Prefect profile that lets Prefect's own commands find the server while `evertune up` runs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from evertune.runtime.files import read_json, write_json

NAME = "evertune"


def folder() -> Path:
    """PREFECT_HOME: Prefect's database and profiles; one `evertune up` at a time uses it."""
    from prefect.settings import PREFECT_HOME

    return Path(PREFECT_HOME.value())


@contextlib.contextmanager
def serving(url: str) -> Iterator[str]:
    """Make a profile for the server at `url` the active one, at the end the user's own again; yields that one's name.

    It has the own one's settings; PREFECT_PROFILE and PREFECT_API_URL in the environment come before it.
    """
    from prefect.settings import PREFECT_API_URL, load_profiles, save_profiles
    from prefect.settings.profiles import Profile

    profiles = load_profiles(include_defaults=True)
    before = profiles.active_name or "ephemeral"
    write_json(_note(), {"before": before})
    own = profiles.profiles_by_name.get(before)
    settings = {**(own.settings if own else {}), PREFECT_API_URL: url}
    profiles.profiles_by_name[NAME] = Profile(name=NAME, settings=settings)
    profiles.active_name = NAME
    save_profiles(profiles)
    try:
        yield before
    finally:
        restore()


def restore() -> None:
    """Take the profile away, at the end or after a crash; a profile that the user chose meanwhile stays active."""
    from prefect.settings import load_profiles, save_profiles

    note = read_json(_note())
    if note is None:
        return
    profiles = load_profiles(include_defaults=True)
    if profiles.active_name == NAME:
        profiles.active_name = note["before"]
    profiles.profiles_by_name.pop(NAME, None)
    save_profiles(profiles)
    _note().unlink()


def _note() -> Path:
    return folder() / "evertune-profile.json"
