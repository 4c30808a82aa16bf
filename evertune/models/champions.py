"""Another recipe's champion as a part of this one: found on this machine's disk, without a registry."""

from pathlib import Path

from evertune.errors import ConfigError
from evertune.runtime.files import read_json, read_json_lines

PREFIX = "champion:"
MOVES = ("moved", "external")


def find_champion(root: Path, text: str, asking_recipe: str = "") -> Path:
    """The model folder in the champion's bundle of the recipe that `champion:NAME` names.

    Args:
        root: the home that both recipes share; asking: the recipe that builds on it, which must be another.
    Raises:
        ConfigError: there is no such champion, its files are gone, or it is no model of whole weights.
    """
    name = text.removeprefix(PREFIX)
    home = root / "models" / name
    advice = "evertune run its recipe first"
    entries = read_json_lines(home / "ledger.jsonl") if (home / "ledger.jsonl").is_file() else []
    version = next((entry["to"] for entry in reversed(entries) if entry["event"] in MOVES), None)
    if name == asking_recipe:
        raise ConfigError(
            f"{text}: a recipe cannot build on itself; data.fresh.start_from: champion goes on with a model"
        )
    if version is None:
        other_recipes = sorted(ledger.parent.name for ledger in root.glob("models/*/ledger.jsonl"))
        available = f"there are {', '.join(other_recipes)}" if other_recipes else "there is no other recipe"
        raise ConfigError(f"{text}: no champion of {name!r} in {root}; {advice} ({available})")
    run = next(
        (entry["run_id"] for entry in reversed(entries) if entry.get("version") == version and entry.get("run_id")),
        None,
    )
    for run_file in sorted(home.glob("runs/*/run.json")):
        model = run_file.parent / "bundle" / "model"
        if (read_json(run_file) or {}).get("run_id") == run and (model / "config.json").is_file():
            if not (model / "model.safetensors").is_file():
                raise ConfigError(f"{text}: version {version} is a variant or an adapter, not whole weights")
            return model
    raise ConfigError(f"{text}: version {version} of {name!r} is the champion, but its files are gone; {advice}")
