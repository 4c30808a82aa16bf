"""Writes docs/recipe.md from the config model, so that the page cannot say what the code does not."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from evertune.config import Recipe
from evertune.config.data import SOURCE_MODELS
from evertune.config.losses import ClassBalanced, Fgm, Focal, FreeLb, Pgd
from evertune.config.methods import METHODS
from evertune.objectives import TABLE, load_objective

HEAD = """# The recipe

One YAML file describes a model's whole life. This page is made from the config model by `python docs/check.py --write`;
`make docs` checks that it is current. Unknown keys are errors, and all errors are shown at once, each with its path.

`${NAME}` in a text stands for an environment variable, `${NAME:-default}` for one with a default. It is replaced at the
moment of use only: no secret is stored or logged with a recipe. Paths start from the recipe's folder.
Any key can be changed for one run: `evertune run RECIPE --set training.epochs=1 --set data.sources.0.weeks=9`.
"""


LISTS = {
    "objective": "[one of these](#objectives)",
    "data.sources": "list of [sources](#sources)",
    "training.method": "`full`, or [one of these](#methods)",
    "training.loss": "[one of these](#losses)",
    "training.adversarial": "[one of these](#adversaries)",
}
LOSSES = (Focal, ClassBalanced)
ADVERSARIES = (Fgm, Pgd, FreeLb)


def reference() -> str:
    """The page, as Markdown."""
    parts = [HEAD, *_section(Recipe, "", "The top level")]
    parts += ["\n## Objectives\n", "`objective.type` names one of these; its options stand beside it.\n"]
    for name in TABLE:
        objective = load_objective(name)
        parts += _section(objective.Options, "objective.", f"`{name}`", level=3)
        parts.append(
            f"Columns: {', '.join(map(_code, objective.COLUMNS))}. Metrics, the default first: "
            f"{', '.join(map(_code, objective.METRICS))}.\n"
        )
    parts += ["\n## Methods\n", "`training.method` is one of these names, or a mapping of `type` and options.\n"]
    for name, model in METHODS.items():
        parts += _section(model, "training.method.", f"`{name}`", level=3)
    for title, path, models in (("Losses", "loss", LOSSES), ("Adversaries", "adversarial", ADVERSARIES)):
        parts += [f"\n## {title}\n", f"`training.{path}` names one of these, or is a mapping of its options.\n"]
        for model in models:
            name = model.model_fields["type"].default
            parts += _section(model, f"training.{path}.", f"`{name}`", level=3)
    parts += ["\n## Sources\n", "Each entry of `data.sources` is of one kind, told by its key.\n"]
    for kind, model in SOURCE_MODELS.items():
        parts += _section(model, "data.sources.N.", f"`{kind}`", level=3)
    return "\n".join(parts)


def _section(model: type[BaseModel], path: str, title: str, level: int = 2) -> Iterator[str]:
    yield f"\n{'#' * level} {title}\n\n{(model.__doc__ or '').strip()}\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    nested = []
    for name, field in model.model_fields.items():
        if path == "" and name in {"folder", "file"}:
            continue
        inner = _model(field.annotation) if name not in {"objective", "sources", "method"} else None
        kind = f"[section](#{_anchor(path + name)})" if inner else LISTS.get(path + name) or _kind(field)
        yield f"| `{path}{name}` | {kind} | {_default(field, inner)} | {_cell(field.description)} |"
        if inner:
            nested.append((name, inner))
    yield ""
    for name, inner in nested:
        yield from _section(inner, f"{path}{name}.", f"`{path}{name}`", level=3)


def _anchor(path: str) -> str:
    return path.replace(".", "")


def _model(annotation: Any) -> type[BaseModel] | None:
    found = [one for one in [annotation, *get_args(annotation)] if isinstance(one, type) and issubclass(one, BaseModel)]
    return found[0] if len(found) == 1 else None


def _kind(field: Any) -> str:
    words = _words(field.annotation)
    bounds = [
        f"{sign} {getattr(one, name)}"
        for one in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(one, name)
    ]
    return _cell(f"{words}, {' and '.join(bounds)}" if bounds else words)


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if annotation is type(None):
        return "null"
    if origin in (list, tuple):
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return f"mapping of {_words(arguments[0])} to {_words(arguments[1])}"
    if arguments:
        return " or ".join(_words(one) for one in arguments)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, "see below" if isinstance(annotation, type) else "anything")


def _default(field: Any, inner: type[BaseModel] | None) -> str:
    if field.is_required():
        return "required"
    if inner is not None:
        return "none" if field.default is None else ""
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    return "none" if value is None else _code(value)


def _code(value: Any) -> str:
    return f"`{value}`" if value != "" else ""


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")
