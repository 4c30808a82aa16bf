"""The deployments of a prefect.yaml, checked before anything starts; their schedules must match the recipes'."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from evertune.config import load_recipe
from evertune.config.load import read_yaml
from evertune.errors import ConfigError

RETRAIN = "flows.retrain.retrain"


class Schedule(TypedDict, total=False):
    """One of the schedules of a deployment, as far as it is read here."""

    cron: str
    timezone: str


class _Required(TypedDict):
    name: str
    entrypoint: str


class Deployment(_Required, total=False):
    """An entry under `deployments`, as far as it is read here."""

    parameters: Mapping[str, object] | None
    schedules: list[Schedule] | None


def list_deployments(prefect_file: Path) -> list[str]:
    """Return FLOW/NAME of each deployment in the file.

    Raises:
        ConfigError: the file is missing or empty, Prefect cannot deploy an entry, or a schedule differs from its
            recipe's.
    """
    if not prefect_file.is_file():
        raise ConfigError(
            f"{prefect_file}: no such file; run `evertune up` in the project's folder, or give --prefect-file"
        )
    entries = read_yaml(prefect_file).get("deployments")
    if not entries or not isinstance(entries, list):
        raise ConfigError(f"{prefect_file}: no entry under `deployments`; docs/tutorial/deployment.md shows one")
    if problems := [problem for number, entry in enumerate(entries) for problem in _find_missing_keys(number, entry)]:
        raise ConfigError(problems, str(prefect_file))
    if problems := [problem for entry in entries for problem in _find_schedule_conflict(entry)]:
        raise ConfigError(problems, str(prefect_file))
    return [f"{re.split('[.:]', entry['entrypoint'])[-1]}/{entry['name']}" for entry in entries]


def _find_missing_keys(number: int, entry: object) -> Iterator[str]:
    """Report keys that are missing or hold a value of the wrong kind."""
    for key, example in (("name", "support-intents"), ("entrypoint", RETRAIN)):
        value = entry.get(key) if isinstance(entry, dict) else None
        if not value or not isinstance(value, str):
            yield f"deployments.{number}.{key}: missing; add it, such as `{key}: {example}`"
    for key, kind, example in (("parameters", dict, "{recipe: FILE}"), ("schedules", list, '[{cron: "0 3 * * *"}]')):
        value = entry.get(key) if isinstance(entry, dict) else None
        is_valid = value is None or isinstance(value, kind)
        if not is_valid or (kind is list and not all(isinstance(item, dict) for item in value or [])):
            yield f"deployments.{number}.{key}: write it as `{key}: {example}`"


def _find_schedule_conflict(entry: Deployment) -> Iterator[str]:
    """Report a deployment whose schedule differs from its recipe's; a paused schedule counts."""
    path = (entry.get("parameters") or {}).get("recipe")
    if entry["entrypoint"] != RETRAIN or not isinstance(path, str):
        return
    recipe_schedule = load_recipe(path, for_data=False).schedule
    deployed = [(item.get("cron"), item.get("timezone") or "UTC") for item in entry.get("schedules") or []]
    if recipe_schedule is not None and deployed != [(recipe_schedule.cron, recipe_schedule.timezone)]:
        deployed_text = ", ".join(f"{cron!r} in {zone}" for cron, zone in deployed) or "none"
        yield (
            f"{entry['name']}: the schedule is {deployed_text} here and {recipe_schedule.cron!r} in "
            f"{recipe_schedule.timezone} in {path}; make them the same (`active: false` here pauses it)"
        )
