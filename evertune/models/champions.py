"""Find another recipe's champion on this machine's disk, without a registry."""

from pathlib import Path

from evertune.errors import ConfigError
from evertune.runtime.files import read_json, read_json_lines

PREFIX = "champion:"
MOVES = ("moved", "external")


def find_champion(root: Path, text: str, asking_recipe: str = "") -> Path:
    """Return the model folder in the bundle of the champion that `champion:NAME` names.

    Args:
        root: the home that both recipes share.
        text: `champion:NAME`.
        asking_recipe: name of the recipe that builds on it, which must be another one.
    Raises:
        ConfigError: there is no such champion, its files are gone, or it is a variant or an adapter.
    """
    name = text.removeprefix(PREFIX)
    home = root / "models" / name
    advice = "evertune run its recipe first"
    entries = read_json_lines(home / "ledger.jsonl") if (home / "ledger.jsonl").is_file() else []
    version = next((entry["to"] for entry in reversed(entries) if entry["event"] in MOVES), None)
    if name == asking_recipe:
        raise ConfigError(
            f"{text}: a recipe cannot build on itself; to continue its champion, set data.fresh.start_from: champion"
        )
    if version is None:
        other_recipes = sorted(ledger.parent.name for ledger in root.glob("models/*/ledger.jsonl"))
        available = f"recipes: {', '.join(other_recipes)}" if other_recipes else "there are no recipes"
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
