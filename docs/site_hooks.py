"""Hooks for mkdocs: add the pages that mkdocs.yml does not list to the navigation."""

from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
SECTION_FOLDERS = {"Reference": "reference", "Explanation": "explanation", "For developers": "decisions"}


def on_config(config: Any) -> Any:
    """Add the unlisted pages of each section to the navigation; mkdocs calls this with its configuration."""
    nav = []
    for entry in config.nav:
        for name, pages in entry.items():
            is_section = isinstance(pages, list)
            nav.append({name: [*pages, *list_unlisted_pages(name, pages)] if is_section else pages})
    config.nav = nav
    return config


def list_unlisted_pages(section: str, listed_pages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return a navigation entry, title -> path, for each page in a section's folder that is not listed.

    Decisions come newest first.
    """
    if section not in SECTION_FOLDERS:
        return []
    listed_names = {name for entry in listed_pages for name in entry.values()}
    folder = DOCS / SECTION_FOLDERS[section]
    is_newest_first = section == "For developers"
    entries = []
    for path in sorted(folder.glob("*.md"), reverse=is_newest_first):
        name = path.relative_to(DOCS).as_posix()
        if name not in listed_names:
            entries.append({read_title(path): name})
    return entries


def read_title(path: Path) -> str:
    """Return a page's first heading, without the `#`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("# ")).removeprefix("# ")
