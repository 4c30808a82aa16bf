"""Reads a YAML file and overrides into a checked `Recipe`; reports all errors at once, with paths and suggestions."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from evertune.config import search
from evertune.config.base import SECRET, find_unset
from evertune.config.data import SOURCE_MODELS
from evertune.config.recipe import Recipe
from evertune.config.search import SearchField
from evertune.config.yaml_text import parse_yaml
from evertune.errors import ConfigError


def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, for_data: bool = True) -> Recipe:
    """Read a recipe.

    Args:
        path: the YAML file.
        overrides: `a.b=value` each; the value is YAML, a number in the path is a position in a list.
        for_data: whether sources and base model will be read, so that every `${NAME}` must be set.
    Raises:
        ConfigError: lists all problems of file and overrides.
    """
    path = Path(path)
    tree = _read_tree(path, overrides)
    fields, problems = search.find_fields(tree)
    search_problems = [
        f"{field.path}: this is a search, not a value; `evertune search {path}` finds a value" for field in fields
    ]
    closed_tree = search.set_values(search.drop_paths(tree, problems), {field.path: field.ends[0] for field in fields})
    return _check_recipe(closed_tree, [*problems.values(), *search_problems], path, for_data)


@dataclass(frozen=True)
class Plan:
    """A recipe with open fields, for a search.

    Args:
        tree: the file's content with overrides applied, and the file's folder and name.
        fields: the fields that are searched.
        recipe: the recipe with the first value of each field.
    """

    tree: dict[str, Any]
    fields: tuple[SearchField, ...]
    recipe: Recipe

    def recipe_of(self, values: Mapping[str, object]) -> Recipe:
        """Return the recipe with these values, by path.

        Raises:
            ConfigError: the values do not fit together.
        """
        return _check_recipe(search.set_values(self.tree, values), [], Path(self.tree["file"]), for_data=False)


def load_search(path: str | Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a recipe with open fields. Both ends of each range and all choices must be valid values.

    Raises:
        ConfigError: lists all problems of file, overrides and searches, or no field is open.
    """
    path = Path(path)
    tree = _read_tree(path, overrides)
    fields, wrong = search.find_fields(tree)
    if not fields and not wrong:
        example = "--set 'training.learning_rate={search: [1e-5, 1e-3], log: true}'"
        raise ConfigError(f"{path}: no field is searched; {search.FORM} instead of a value, or use {example}")
    return make_plan(search.drop_paths(tree, wrong), fields, path, [*wrong.values()])


def make_plan(tree: dict[str, object], fields: Sequence[SearchField], path: Path, problems: Sequence[str] = ()) -> Plan:
    """Make a plan from a tree and its open fields, if every end of a range and every choice is valid.

    Args:
        tree: the file's content.
        fields: the open fields.
        path: the file.
        problems: those found so far.
    Raises:
        ConfigError: lists these and all other problems.
    """
    first = {field.path: field.ends[0] for field in fields}
    all_problems = list(problems)
    for field in fields:
        count_before = len(all_problems)
        for value in field.ends:
            all_problems += [
                text
                for text in _find_errors(search.set_values(tree, {**first, field.path: value}))
                if text not in all_problems
            ]
        if len(all_problems) == count_before and field.fractional_value is not None:
            between = _find_errors(search.set_values(tree, {**first, field.path: field.fractional_value}))
            all_problems += (
                [f"{field.path}: takes whole numbers; write the ends of its range without a decimal point"]
                if between
                else []
            )
    return Plan(tree, tuple(fields), _check_recipe(search.set_values(tree, first), all_problems, path, for_data=True))


def _read_tree(path: Path, overrides: Sequence[str]) -> dict[str, object]:
    tree = read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    return {**tree, "folder": str(path.absolute().parent), "file": path.name}


def _find_errors(tree: dict[str, object]) -> list[str]:
    try:
        Recipe.model_validate(tree)
    except ValidationError as error:
        return _format_errors(error)
    return []


def _check_recipe(tree: dict[str, object], problems: Sequence[str], path: Path, for_data: bool) -> Recipe:
    """The recipe of a tree, if there are no problems: neither these, which are listed first, nor others."""
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        problems = [*problems, *(text for text in _format_errors(error) if text not in problems)]
    if problems:
        raise ConfigError(list(problems), str(path))
    if for_data and (unknown := list(_report_unset_variables(recipe.model_dump(mode="json", exclude={"notify"})))):
        raise ConfigError(unknown, str(path))
    return recipe


def read_yaml(path: Path) -> dict[str, object]:
    """Read the mapping in a YAML file.

    Raises:
        ConfigError: no such file, a folder, not UTF-8, not YAML, or not a mapping.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [file.name for file in path.absolute().parent.glob("*.y*ml")], 1)
        hint = (
            f"did you mean {path.parent / near[0]}?"
            if near
            else "give the path of a recipe, such as configs/support_intents.yaml"
        )
        raise ConfigError(f"{path}: no such file; {hint}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: this is a folder; give the path of a recipe in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        content = "is empty" if tree is None else f"holds {type(tree).__name__}, not a mapping"
        raise ConfigError(f"{path}: this file {content}; write lines of `key: value`, such as `name: my-model`")
    return tree


def _apply_override(tree: dict[str, object], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: write it as path.to.key=value")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None)
        reason = f": {problem}" if problem else ""
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value{reason}") from None
    *parents, last = key.split(".")
    node: Any = tree
    for part in parents:
        node = _get_child(node, part, key)
    if isinstance(node, list):
        _get_child(node, last, key)
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"--set {key}: {last!r} cannot be set, its parent is the value {node!r}")


def _get_child(node: object, part: str, key: str) -> object:
    if isinstance(node, list):
        if not (part.isascii() and part.isdigit()) or int(part) >= len(node):
            raise ConfigError(f"--set {key}: {part!r} is not a position in a list of {len(node)}; the first is 0")
        return node[int(part)]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {key}: {part!r} cannot be set, its parent is the value {node!r}")
    if node.get(part) is None:
        node[part] = {}
    return node[part]


def _format_errors(error: ValidationError) -> list[str]:
    return [_format_error(item) for item in error.errors(include_url=False)]


def _format_error(item: ErrorDetails) -> str:
    where = ".".join(str(part) for part in _file_location(item["loc"]))
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key; {_suggest_choice(str(item['loc'][-1]), _list_keys(item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{where}: missing; add it"
    if item["type"] == "union_tag_not_found":
        keys = "type" if item["loc"][0] in {"objective", "training"} else f"one of {', '.join(SOURCE_MODELS)}"
        return f"{where}: cannot tell its kind; add {keys}"
    if item["type"] in {"union_tag_invalid", "literal_error"}:
        value = item["input"].get("type") if isinstance(item["input"], dict) else item["input"]
        allowed = str(item["ctx"].get("expected_tags") or item["ctx"].get("expected"))
        options = [option.strip(" '") for option in allowed.replace(" or ", ",").split(",")]
        return f"{where}: unknown value {value!r}; {_suggest_choice(str(value), options)}"
    if item["type"] == "string_type" and not isinstance(item["input"], (dict, list)):
        message += "; put it in quotes"
    hidden = isinstance(item["input"], (dict, list)) or item["type"] == SECRET or not where
    shown = "" if hidden else f", not {item['input']!r}"
    return f"{where}: {message}{shown}" if where else message


def _suggest_choice(value: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, choices, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(choices)}"


def _file_location(location: Sequence[int | str]) -> list[int | str]:
    """The location as it is written in the file."""
    return _walk_location(location)[0]


def _list_keys(location: Sequence[int | str]) -> list[str]:
    """The keys of the section at this location."""
    (model,) = _walk_location(location)[1].values()
    return [key for key in model.model_fields if key not in {"folder", "file"}]


def _walk_location(location: Sequence[int | str]) -> tuple[list[int | str], dict[str, type[BaseModel]]]:
    """The location as it is written in the file, and by name the sections that may be there.

    pydantic's locations also contain the chosen member of a union, which is not a key of the file.
    """
    parts: list[int | str] = []
    members: dict[str, type[BaseModel]] = {"": Recipe}
    for part in location:
        if len(members) > 1 and part in members:
            members = {str(part): members[str(part)]}
            continue
        parts.append(part)
        for model in [*members.values()] if len(members) == 1 else []:
            if part in model.model_fields:
                members = dict(_list_sections(model.model_fields[str(part)].annotation))
    return parts, members


def _list_sections(annotation: object) -> Iterator[tuple[str, type[BaseModel]]]:
    """The sections that a field may hold, each with its name in a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        type_field = annotation.model_fields.get("type")
        yield (annotation.__name__ if type_field is None else str(type_field.default)), annotation
        return
    tags = [item.tag for item in getattr(annotation, "__metadata__", ()) if isinstance(item, Tag)]
    for argument in get_args(annotation)[:1] if tags else getattr(annotation, "__args__", ()):
        for name, model in _list_sections(argument):
            yield (tags[0] if tags else name), model


def _report_unset_variables(value: object, where: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _report_unset_variables(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _report_unset_variables(item, f"{where}.{index}")
    elif isinstance(value, str):
        for name in find_unset(value):
            yield f"{where}: the environment variable {name} is not set; export it and try again"
