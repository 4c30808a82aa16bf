"""Fields that a recipe leaves open for `evertune search`: `{search: [low, high], log: true}`, or choices."""

import copy
import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

KEYS = ("search", "log", "step")
OPEN = ("objective", "base_model", "training")  # rows and evaluation are the same for all trials
FIXED = {"objective.type", "training.processes", "training.compile"}  # another search, and what shapes no weight
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # a number that YAML 1.1 takes for text, such as 1e-4
FORM = "write {search: [low, high], log: true}, {search: [a, b, c]} or {search: {choices: [a, b]}}"


@dataclass(frozen=True)
class Searched:
    """A field whose value is searched for: a range, or choices where there are any.

    Args:
        path: keys and positions, with points between them.
        step: distance of a range's values; None for all of them.
        log: whether the logarithm is drawn evenly.
    """

    path: str
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether a range holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must all be valid: both ends of a range, every choice."""
        return self.choices or (self.low, self.high)

    @property
    def between(self) -> float | None:
        """A value of a range that is no whole number; None where there is none."""
        return None if self.choices or self.whole else self.low + (self.high - self.low) / math.pi

    @property
    def words(self) -> str:
        """The range or the choices, for a person."""
        if self.choices:
            return ", ".join(told(one) for one in self.choices)
        more = [f"in steps of {self.step:g}"] if self.step else []
        return ", ".join([f"{told(self.low)} to {told(self.high)}", *(["log"] if self.log else []), *more])


def told(value: Any) -> str:
    """A value of the recipe as people read it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def short(paths: Iterable[str]) -> dict[str, str]:
    """A name for each path: its last key, where no other has that."""
    last = {path: path.rpartition(".")[2] for path in paths}
    return {path: name if [*last.values()].count(name) == 1 else path for path, name in last.items()}


def found(tree: Mapping[str, Any]) -> tuple[list[Searched], dict[str, str]]:
    """The fields of a recipe's tree that are searched, and by its path what is wrong with one that is not well written.

    Args:
        tree: as it stands in the file, overrides applied.
    """
    fields, problems = [], {}
    for path, marker in _markers(tree, ""):
        problem = _problem(path, marker)
        if problem is None:
            fields.append(_read(path, marker))
        else:
            problems[path] = f"{path}: {problem}"
    return fields, problems


def placed(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with values at these paths; what was there is replaced."""
    made = copy.deepcopy(dict(tree))
    for path, value in values.items():
        node, last = _parent(made, path)
        node[last] = value
    return made


def without(tree: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The tree without what stands at these paths."""
    made = copy.deepcopy(dict(tree))
    for path in paths:
        node, last = _parent(made, path)
        del node[last]
    return made


def _parent(tree: Any, path: str) -> tuple[Any, Any]:
    *parents, last = path.split(".")
    for part in parents:
        tree = tree[int(part) if isinstance(tree, list) else part]
    return tree, int(last) if isinstance(tree, list) else last


def _markers(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict) and isinstance(node.get("search"), (list, dict)):  # a label may be called `search`
        yield path, node
        return
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from _markers(child, f"{path}.{key}" if path else str(key))


def _problem(path: str, marker: dict[str, Any]) -> str | None:
    if path.partition(".")[0] not in OPEN or path in FIXED:
        where = "objective (its type excepted), base_model and training"
        return f"cannot be searched: rows and evaluation are the same for all trials; search in {where}"
    for key in marker:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1, 0.5)
            return f"unknown key {key!r} beside search; " + (f"did you mean {near[0]}?" if near else FORM)
    given = marker["search"]
    if isinstance(given, dict):
        if list(given) != ["choices"] or not isinstance(given["choices"], list):
            return f"not a search; {FORM}"
        return _choices_problem(given["choices"], marker)
    return _range_problem(*_numbers(given), marker) if _is_range(given) else _choices_problem(given, marker)


def _choices_problem(choices: list[Any], marker: dict[str, Any]) -> str | None:
    if extra := [key for key in ("log", "step") if key in marker]:
        return f"{extra[0]} belongs to a range of two numbers, not to choices; leave it out"
    texts = [told(one) for one in choices]
    if len(texts) < 2:
        return "give two choices at least, or write the value itself"
    repeated = next((one for one in texts if texts.count(one) > 1), None)
    return None if repeated is None else f"the choice {repeated} stands twice; leave one out"


def _range_problem(low: float, high: float, marker: dict[str, Any]) -> str | None:
    log, step = marker.get("log", False), marker.get("step")
    if not isinstance(log, bool):
        return f"log is true or false, not {log!r}"
    if not low < high:
        return f"the range ends at {told(high)}, which is not above {told(low)}; write the lower end first"
    if log and low <= 0:
        return f"with log: true a range begins above 0, not at {told(low)}"
    if step is None:
        return None
    if not _is_number(step) or not 0 < _number(step) <= high - low:
        return f"step is a number above 0 and at most {told(high - low)}, not {step!r}"
    return "log and step do not go together; leave one out" if log else None


def _read(path: str, marker: dict[str, Any]) -> Searched:
    given = marker["search"]
    if not _is_range(given):
        choices = given["choices"] if isinstance(given, dict) else given
        return Searched(path, choices=tuple(_number(one) if _is_number(one) else one for one in choices))
    low, high = _numbers(given)
    step = _number(marker["step"]) if marker.get("step") is not None else None
    if isinstance(step, float) and not step.is_integer():
        low, high = float(low), float(high)
    if step is not None:
        high = low + type(low)(step) * int((high - low) / step + 1e-9)  # the last value that the steps reach
    return Searched(path, low, high, step, marker.get("log", False))


def _is_range(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(map(_is_number, given))


def _is_number(value: Any) -> bool:
    text = isinstance(value, str) and EXPONENT.fullmatch(value) is not None
    return text or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _numbers(given: list[Any]) -> tuple[Any, Any]:
    low, high = map(_number, given)
    return low, high
