"""Write the best recipe as YAML: the original text with its comments, and values in place of the searches."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import yaml

from evertune.config import Plan, search
from evertune.config.load import read_yaml
from evertune.errors import ConfigError

EXAMPLE = "evertune run "  # beginning of a recipe's first comment, the command that runs it
PLACE = ("folder", "file")
ABSENT = object()
KeyPath = tuple[str | int, ...]  # keys and positions in a tree


class _Data(TypedDict):
    sources: list[Mapping[str, object]]


class _Tree(TypedDict):
    """What is changed of a recipe's tree for another folder."""

    base_model: str
    data: _Data


def write_recipe(plan: Plan, values: Mapping[str, object], path: Path, comments: Sequence[str]) -> None:
    """Write the recipe with the best values; its first lines tell how to run it and where it comes from.

    Args:
        plan: of the search.
        values: path in the recipe -> value.
        path: of the new file.
        comments: further lines of the first comment.
    Raises:
        ConfigError: the file cannot be written.
    """
    original = Path(plan.tree["folder"]) / plan.tree["file"]
    tree = search.set_values({name: part for name, part in plan.tree.items() if name not in PLACE}, values)
    moved = _move_paths(cast(_Tree, tree), original.parent, path.absolute().parent)
    body = edit_yaml(_without_first_line(original.read_text(encoding="utf-8")), read_yaml(original), moved)
    head = [f"# {EXAMPLE}{path}", *(f"# {line}" for line in comments)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*head, body]), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--output: {path} cannot be written: {error.strerror or error}") from error


def edit_yaml(text: str, before: object, after: object) -> str:
    """Edit the YAML text of `before` so that it loads as `after`; if that fails, return `after` without comments."""
    try:
        for path, value in _find_changes(before, after):
            text = _replace_value(text, path, value)
        if yaml.safe_load(text) == after:
            return text
    except yaml.YAMLError:
        pass
    return yaml.safe_dump(after, sort_keys=False, allow_unicode=True)


def _find_changes(before: object, after: object, path: KeyPath = ()) -> list[tuple[KeyPath, object]]:
    """Return (path, new value) of each difference, as deep as the two trees have the same structure."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() <= after.keys():
        parts = [((*path, key), before.get(key, ABSENT), value) for key, value in after.items()]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        parts = [
            ((*path, index), old_item, new_item)
            for index, (old_item, new_item) in enumerate(zip(before, after, strict=True))
        ]
    else:
        return [] if before == after and type(before) is type(after) else [(path, after)]
    changes: list[tuple[KeyPath, object]] = []
    for part_path, old_value, new_value in parts:
        changes += _find_changes(old_value, new_value, part_path)
    return changes


def _replace_value(text: str, path: KeyPath, value: object) -> str:
    node: yaml.Node | None = yaml.compose(text)
    for key in path:
        parent = cast(yaml.CollectionNode, node)  # only the last key may be new
        name, node = _find_child(parent, key)
    if node is None:
        return _insert_entry(text, parent, path[-1], value)
    before = text[: node.start_mark.index]
    after = text[_find_end(node) :]
    if name is None or name.end_mark.line == node.start_mark.line:
        return f"{before}{_format_flow(value)}{after}"
    between = before[name.end_mark.index :].lstrip()[1:].rstrip()  # comments, between the colon and a block
    return f"{before[: name.end_mark.index]}: {_format_flow(value)}{between}{after}"


def _find_child(node: yaml.Node, key: str | int) -> tuple[yaml.Node | None, yaml.Node | None]:
    """Return the nodes of a key and of its value; (None, None) if the mapping lacks the key."""
    if isinstance(node, yaml.SequenceNode):
        return None, node.value[key]
    for name, value in node.value:
        if name.value == key:
            return name, value
    return None, None


def _insert_entry(text: str, node: yaml.CollectionNode, key: str | int, value: object) -> str:
    """Return the text with a new entry: first in a flow mapping, last in a block."""
    entry = f"{key}: {_format_flow(value)}"
    if node.flow_style:
        start = node.start_mark.index + 1
        return f"{text[:start]}{entry}{', ' if node.value else ''}{text[start:]}"
    end = text.find("\n", _find_end(node))
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{' ' * node.start_mark.column}{entry}{text[end:]}"


def _find_end(node: yaml.Node) -> int:
    """Return where a node's own text ends; the end mark of a block is after the comments that follow it."""
    if isinstance(node, yaml.ScalarNode) or cast(yaml.CollectionNode, node).flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _find_end(last[1] if isinstance(last, tuple) else last)


def _format_flow(value: object) -> str:
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=2**20).strip()[1:-1]


def _without_first_line(text: str) -> str:
    """Return the text without the command that runs the original, and the empty comment after it."""
    first, _, rest = text.partition("\n")
    if not first.startswith(f"# {EXAMPLE}"):
        return text
    return rest.removeprefix("#\n")


def _move_paths(tree: _Tree, old: Path, new: Path) -> _Tree:
    """Return the tree with the relative paths of sources and base model rewritten for another folder."""
    if old.resolve() == new.resolve():
        return tree
    sources = [_move_source(source, old, new) for source in tree["data"]["sources"]]
    base = tree["base_model"]
    if (old / base).is_dir() and not Path(base).is_absolute():
        base = os.path.relpath(old / base, new)
    return {**tree, "base_model": base, "data": {**tree["data"], "sources": sources}}


def _move_source(source: Mapping[str, Any], old: Path, new: Path) -> Mapping[str, object]:
    """Rewrite a source's relative path for another folder; placeholders, absolute paths and URLs stay."""
    moved_paths = {
        kind: os.path.relpath(old / path, new)
        for kind, path in source.items()
        if kind in ("path", "delta") and "://" not in path and not path.startswith(("/", "~", "$"))
    }
    return {**source, **moved_paths}
