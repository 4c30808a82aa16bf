"""Another recipe's champion as a part of this one: found on this machine's disk, without a registry."""

from pathlib import Path

from evertune.errors import ConfigError
from evertune.runtime.files import read_json, read_json_lines

PREFIX = "champion:"
MOVES = ("moved", "external")


def folder(root: Path, text: str, asking: str = "") -> Path:
    """The model folder in the champion's bundle of the recipe that `champion:NAME` names.

    Args:
        root: the home that both recipes share; asking: the recipe that builds on it, which must be another.
    Raises:
        ConfigError: there is no such champion, its files are gone, or it is no model of whole weights.
    """
    name = text.removeprefix(PREFIX)
    home, known = root / "models" / name, "evertune run its recipe first"
    entries = read_json_lines(home / "ledger.jsonl") if (home / "ledger.jsonl").is_file() else []
    version = next((one["to"] for one in reversed(entries) if one["event"] in MOVES), None)
    if name == asking:
        raise ConfigError(
            f"{text}: a recipe cannot build on itself; data.fresh.start_from: champion goes on with a model"
        )
    if version is None:
        others = sorted(one.parent.name for one in root.glob("models/*/ledger.jsonl"))
        there = f"there are {', '.join(others)}" if others else "there is no other recipe"
        raise ConfigError(f"{text}: no champion of {name!r} in {root}; {known} ({there})")
    run = next(
        (one["run_id"] for one in reversed(entries) if one.get("version") == version and one.get("run_id")), None
    )
    for found in sorted(home.glob("runs/*/run.json")):
        model = found.parent / "bundle" / "model"
        if (read_json(found) or {}).get("run_id") == run and (model / "config.json").is_file():
            if not (model / "model.safetensors").is_file():
                raise ConfigError(f"{text}: version {version} is a variant or an adapter, not whole weights")
            return model
    raise ConfigError(f"{text}: version {version} of {name!r} is the champion, but its files are gone; {known}")
