"""What a prefect.yaml says, read before anything starts: its deployments, and their schedules beside the recipes'."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evertune.config import load
from evertune.config.load import read_yaml
from evertune.errors import ConfigError

RETRAIN = "flows.retrain.retrain"


def names(prefect_file: Path) -> list[str]:
    """FLOW/NAME of each deployment in the file.

    Raises:
        ConfigError: no such file, nothing in it, an entry that Prefect cannot deploy, or a schedule that is not its
            recipe's.
    """
    if not prefect_file.is_file():
        raise ConfigError(f"{prefect_file}: no such file; run this in the project's folder, or give --prefect-file")
    found = read_yaml(prefect_file).get("deployments")
    if not found or not isinstance(found, list):
        raise ConfigError(f"{prefect_file}: there is nothing under `deployments`; docs/tutorial/deployment.md shows one")
    if problems := [problem for number, one in enumerate(found) for problem in _incomplete(number, one)]:
        raise ConfigError(problems, str(prefect_file))
    if problems := [problem for one in found for problem in _other_schedule(one)]:
        raise ConfigError(problems, str(prefect_file))
    return [f"{re.split('[.:]', one['entrypoint'])[-1]}/{one['name']}" for one in found]


def _incomplete(number: int, one: Any) -> Iterator[str]:
    """Keys that are missing or hold another kind of value."""
    for key, example in (("name", "support-intents"), ("entrypoint", RETRAIN)):
        value = one.get(key) if isinstance(one, dict) else None
        if not value or not isinstance(value, str):
            yield f"deployments.{number}.{key}: missing; add it, such as `{key}: {example}`"
    for key, kind, example in (("parameters", dict, "{recipe: FILE}"), ("schedules", list, '[{cron: "0 3 * * *"}]')):
        value = one.get(key) if isinstance(one, dict) else None
        whole = value is None or isinstance(value, kind)
        if not whole or (kind is list and not all(isinstance(each, dict) for each in value or [])):
            yield f"deployments.{number}.{key}: write it as `{key}: {example}`"


def _other_schedule(one: dict[str, Any]) -> Iterator[str]:
    """A recipe that names a schedule means the one of its deployment; a paused one counts."""
    path = (one.get("parameters") or {}).get("recipe")
    if one["entrypoint"] != RETRAIN or not isinstance(path, str):
        return
    wanted = load(path, for_data=False).schedule
    have = [(each.get("cron"), each.get("timezone") or "UTC") for each in one.get("schedules") or []]
    if wanted is not None and have != [(wanted.cron, wanted.timezone)]:
        here = ", ".join(f"{cron!r} in {zone}" for cron, zone in have) or "none"
        yield (
            f"{one['name']}: its schedule is {here}, that of {path} is {wanted.cron!r} in {wanted.timezone}; "
            "write the same in both (with `active: false` here, to pause it)"
        )
