"""Open fields of a recipe, for `evertune search`: `{search: [low, high], log: true}`, or choices."""

import copy
import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, cast

KEYS = ("search", "log", "step")
OPEN = ("objective", "base_model", "training")  # rows and evaluation are the same for all trials
FIXED = {
    "objective.type",
    "training.processes",
    "training.compile",
}  # another task, and settings that do not affect the weights
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # a number that YAML 1.1 reads as text, such as 1e-4
FORM = "write {search: [low, high], log: true}, {search: [a, b, c]} or {search: {choices: [a, b]}}"


@dataclass(frozen=True)
class SearchField:
    """A field whose value is searched for: a range, or choices where there are any.

    Args:
        path: keys and positions, separated by points.
        low, high: ends of a range.
        step: distance between the values of a range; None: any value.
        log: whether values are drawn on a logarithmic scale.
        choices: the values, if it is not a range.
    """

    path: str
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[object, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the range is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[object, ...]:
        """Values that must all be valid: both ends of a range, every choice."""
        return self.choices or (self.low, self.high)

    @property
    def fractional_value(self) -> float | None:
        """A value of the range that is not a whole number; None if there is none."""
        return None if self.choices or self.is_whole else self.low + (self.high - self.low) / math.pi

    @property
    def description(self) -> str:
        """The range or the choices, as text."""
        if self.choices:
            return ", ".join(format_value(choice) for choice in self.choices)
        more = [f"in steps of {self.step:g}"] if self.step else []
        return ", ".join(
            [f"{format_value(self.low)} to {format_value(self.high)}", *(["log"] if self.log else []), *more]
        )


class _Parent(Protocol):
    """The mapping or the list that a value is in."""

    def __setitem__(self, key: str | int, value: object, /) -> None: ...

    def __delitem__(self, key: str | int, /) -> None: ...


def format_value(value: object) -> str:
    """Format a value of the recipe for display."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(_to_json(value))


def _to_json(value: object) -> object:
    """Return a value as JSON can hold it: YAML also has dates, sets and keys that are no texts."""
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_to_json(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def shorten_paths(paths: Iterable[str]) -> dict[str, str]:
    """Return a short name for each path: its last key if that is unique, else the path."""
    last_keys = {path: path.rpartition(".")[2] for path in paths}
    return {path: name if [*last_keys.values()].count(name) == 1 else path for path, name in last_keys.items()}


def find_fields(tree: Mapping[str, object]) -> tuple[list[SearchField], dict[str, str]]:
    """Find the open fields of a recipe, and by path the problem of each that is not well formed.

    Args:
        tree: the file's content with overrides applied.
    """
    fields = []
    problems = {}
    for path, marker in _find_markers(tree, ""):
        problem = _describe_problem(path, marker)
        if problem is None:
            fields.append(_read_field(path, marker))
        else:
            problems[path] = f"{path}: {problem}"
    return fields, problems


def set_values(tree: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    """Return the tree with the values at these paths replaced."""
    changed_tree = copy.deepcopy(dict(tree))
    for path, value in values.items():
        node, last = _find_parent(changed_tree, path)
        node[last] = value
    return changed_tree


def drop_paths(tree: Mapping[str, object], paths: Iterable[str]) -> dict[str, object]:
    """Return the tree without the values at these paths."""
    changed_tree = copy.deepcopy(dict(tree))
    for path in paths:
        node, last = _find_parent(changed_tree, path)
        del node[last]
    return changed_tree


def _find_parent(tree: Mapping[str, object], path: str) -> tuple[_Parent, str | int]:
    """Return the mapping or list that holds the value at a path, and the value's key or index in it."""
    node: Any = tree
    rest = path
    while True:
        key, below = _split_path(node, rest)
        if not below:
            return node, cast("str | int", key)
        node = node[key]
        rest = below


def _split_path(node: object, path: str) -> tuple[object, str]:
    """Return the key or index that a path starts with, and the rest of the path. A key may contain dots or be a number.

    A path whose keys do not all exist ends with a new key.
    """
    if isinstance(node, list):
        index, _, below = path.partition(".")
        return int(index), below
    keys = cast("Mapping[object, object]", node)
    fitting = [key for key in keys if path == str(key) or path.startswith(f"{key}.")]
    if not fitting:
        return path, ""
    best = max(fitting, key=lambda key: len(str(key)))
    return best, path[len(str(best)) + 1 :]


def _find_markers(node: object, path: str) -> Iterator[tuple[str, dict[str, object]]]:
    is_marker = isinstance(node, dict) and isinstance(node.get("search"), (list, dict))
    if path and is_marker:  # a label may be called `search`; a key at the top is none
        yield path, cast("dict[str, object]", node)
        return
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from _find_markers(child, f"{path}.{key}" if path else str(key))


def _describe_problem(path: str, marker: Mapping[str, object]) -> str | None:
    if path.partition(".")[0] not in OPEN or path in FIXED:
        where = "objective (except its type), base_model and training"
        return f"cannot be searched, because all trials share rows and evaluation; search in {where}"
    for key in marker:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1, 0.5)
            return f"unknown key {key!r} next to search; " + (f"did you mean {near[0]}?" if near else FORM)
    value = cast("list[object] | dict[str, object]", marker["search"])
    if isinstance(value, dict):
        if list(value) != ["choices"] or not isinstance(value["choices"], list):
            return f"not a search; {FORM}"
        return _choices_problem(value["choices"], marker)
    return _range_problem(*_to_numbers(value), marker) if _is_range(value) else _choices_problem(value, marker)


def _choices_problem(choices: Sequence[object], marker: Mapping[str, object]) -> str | None:
    if extra := [key for key in ("log", "step") if key in marker]:
        return f"{extra[0]} is for ranges of two numbers, not for choices; remove it"
    texts = [format_value(choice) for choice in choices]
    if len(texts) < 2:
        return "give at least two choices, or write the value itself"
    repeated = next((text for text in texts if texts.count(text) > 1), None)
    return None if repeated is None else f"the choice {repeated} is repeated; remove one"


def _range_problem(low: float, high: float, marker: Mapping[str, object]) -> str | None:
    log = marker.get("log", False)
    step = marker.get("step")
    if not isinstance(log, bool):
        return f"log must be true or false, not {log!r}"
    if not low < high:
        return (
            f"the range ends at {format_value(high)}, which is not above {format_value(low)}; write the lower end first"
        )
    if log and low <= 0:
        return f"with log: true a range must start above 0, not at {format_value(low)}"
    if step is None:
        return None
    if not _is_number(step) or not 0 < _to_number(step) <= high - low:
        return f"step must be a number above 0 and at most {format_value(high - low)}, not {step!r}"
    return "log and step cannot be combined; remove one" if log else None


def _read_field(path: str, marker: Mapping[str, object]) -> SearchField:
    value = cast("list[object] | dict[str, list[object]]", marker["search"])
    if not _is_range(value):
        choices = value["choices"] if isinstance(value, dict) else value
        return SearchField(
            path, choices=tuple(_to_number(choice) if _is_number(choice) else choice for choice in choices)
        )
    low, high = _to_numbers(value)
    step = _to_number(cast("float | str", marker["step"])) if marker.get("step") is not None else None
    if isinstance(step, float) and not step.is_integer():
        low = float(low)
        high = float(high)
    if step is not None:
        high = low + type(low)(step) * int((high - low) / step + 1e-9)  # the last value that the steps reach
    return SearchField(path, low, high, step, cast(bool, marker.get("log", False)))


def _is_range(value: object) -> TypeGuard[list[float | str]]:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: object) -> TypeGuard[float | str]:
    text = isinstance(value, str) and EXPONENT.fullmatch(value) is not None
    return text or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))


def _to_number(value: float | str) -> float:
    return float(value) if isinstance(value, str) else value


def _to_numbers(values: Sequence[float | str]) -> tuple[float, float]:
    low, high = map(_to_number, values)
    return low, high
