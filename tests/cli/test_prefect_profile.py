"""The Prefect profile of `evertune up`: it serves Prefect's commands, keeps its key from others, and goes again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evertune.cli.server import prefect_profile

URL = "http://127.0.0.1:4299/api"
KEY = "evertune:a key of the tests"


@pytest.fixture
def prefect_home(tmp_path: Path) -> Iterator[Path]:
    """A PREFECT_HOME in which the user has a profile `mine`, active."""
    from prefect.settings import PREFECT_HOME, PREFECT_PROFILES_PATH, temporary_settings

    profiles = tmp_path / "profiles.toml"
    profiles.write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://mine/api"\n'
        'PREFECT_RESULTS_PERSIST_BY_DEFAULT = "true"\n[profiles.other]\n'
    )
    with temporary_settings({PREFECT_HOME: tmp_path, PREFECT_PROFILES_PATH: profiles}):
        yield tmp_path


def profiles() -> tuple[str | None, dict[str, dict[str, str]]]:
    from prefect.settings import load_profiles

    found = load_profiles(include_defaults=False)
    return found.active_name, {name: found[name].to_environment_variables() for name in found}


def test_the_profile_serves_prefects_commands_and_the_users_own_comes_back(prefect_home: Path) -> None:
    before = profiles()
    with prefect_profile.activate_profile(URL, KEY) as replaced:
        active, settings = profiles()
        assert replaced == "mine"
        assert active == "evertune"
        assert settings["evertune"] == {
            "PREFECT_API_URL": URL,
            "PREFECT_API_AUTH_STRING": KEY,
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        }
        assert settings["mine"] == before[1]["mine"]
    assert profiles() == before


def test_a_profile_that_the_user_chose_meanwhile_stays(prefect_home: Path) -> None:
    from prefect.settings import load_profiles, save_profiles

    with prefect_profile.activate_profile(URL, KEY):
        chosen = load_profiles(include_defaults=True)
        chosen.set_active("other")
        save_profiles(chosen)
    assert profiles()[0] == "other"
    assert "evertune" not in profiles()[1]


@pytest.mark.process
def test_a_profile_that_a_killed_command_left_is_healed(prefect_home: Path) -> None:
    before = profiles()
    code = (
        "import os; from pathlib import Path; from evertune.cli.server import prefect_profile\n"
        f"with prefect_profile.activate_profile({URL!r}, {KEY!r}): os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PREFECT_HOME": str(prefect_home)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
    assert profiles()[0] == "evertune"
    prefect_profile.restore_profile()
    assert profiles() == before
    prefect_profile.restore_profile()  # nothing is left to restore: nothing changes
    assert profiles() == before


def test_the_file_that_holds_the_key_is_for_its_owner_alone(prefect_home: Path) -> None:
    file = prefect_home / "profiles.toml"
    file.chmod(0o644)
    with file.open() as opened_by_another, prefect_profile.activate_profile(URL, KEY):
        assert KEY in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
        assert KEY not in opened_by_another.read()
    assert KEY not in file.read_text()


def test_a_linked_file_of_profiles_stays_a_link(prefect_home: Path) -> None:
    file = prefect_home / "profiles.toml"
    file.rename(prefect_home / "dotfile")
    file.symlink_to("dotfile")
    with prefect_profile.activate_profile(URL, KEY):
        assert file.is_symlink()
        assert KEY in (prefect_home / "dotfile").read_text()


@pytest.mark.parametrize(
    ("url", "profile"),
    [(URL, None), ("http://localhost:4299/api/", None), ("https://prefect.example.com/api", "mine"), (None, None)],
)
def test_another_server_is_not_sent_the_key(
    prefect_home: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, profile: str | None
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    monkeypatch.setenv("PREFECT_PROFILE", "x")
    monkeypatch.delenv("PREFECT_PROFILE")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if url:
        monkeypatch.setenv("PREFECT_API_URL", url)
    with prefect_profile.activate_profile(URL, KEY):
        prefect_profile.keep_key_from_others()
    assert os.environ.get("PREFECT_PROFILE") == profile
