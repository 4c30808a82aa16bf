"""The hooks of mkdocs: pages of these folders that mkdocs.yml does not list join the nav by themselves."""

from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
SECTIONS = {"Reference": "reference", "Explanation": "explanation", "For developers": "decisions"}


def on_config(config: Any) -> Any:
    """Add unlisted pages to the nav's sections, each titled by its first heading; the newest decision comes first."""
    config.nav = [
        {name: [*pages, *unlisted(name, pages)]} if isinstance(pages, list) else {name: pages}
        for part in config.nav
        for name, pages in part.items()
    ]
    return config


def unlisted(section: str, listed: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The pages in a section's folder that its entries do not name."""
    if section not in SECTIONS:
        return []
    named = {path for entry in listed for path in entry.values()}
    found = sorted((DOCS / SECTIONS[section]).glob("*.md"), reverse=section == "For developers")
    return [{title(path): name} for path in found if (name := path.relative_to(DOCS).as_posix()) not in named]


def title(path: Path) -> str:
    """A page's first heading, without its mark."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("# ")).removeprefix("# ")
