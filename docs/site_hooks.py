"""The hooks of mkdocs: the nav gets the decisions, which mkdocs.yml does not list one by one."""

from pathlib import Path
from typing import Any

SECTION = "For developers"
DECISIONS = Path(__file__).resolve().parent / "decisions"


def on_config(config: Any) -> Any:
    """Fill the nav's last section with all decisions, newest first, each titled by its first heading."""
    found = sorted(DECISIONS.glob("*.md"), reverse=True)
    listed = [{title(path): f"decisions/{path.name}"} for path in found]
    config.nav = [{SECTION: listed} if SECTION in part else part for part in config.nav]
    return config


def title(path: Path) -> str:
    """A page's first heading, without its mark."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
