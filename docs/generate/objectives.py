"""Generates docs/reference/objectives.md: what a model can be tuned for, from the table of objectives."""

# ruff: noqa: E501 (a table cell must stay on one line)

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from evertune.objectives import TABLE, load_objective

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HEAD = """# Objectives

An objective is what a model is tuned for. `objective.type` in the recipe names it:

```yaml
objective: {type: text-classification, max_length: 128}
```

`evertune new` writes a first recipe for any of them:

```console
$ evertune new my-model --data my.csv --objective pair-classification
```

Every objective runs through the same contract, gate, registry and report. This page is generated from the code.

"""

# Measured by `evertune run RECIPE` on the test rows: one seed, 2 shared cores of an AMD EPYC with AVX512-BF16.
RESULTS = {
    "text-classification": "[benchmarks](benchmarks.md#what-the-recipes-reach-on-public-data)",
    "token-classification": "[benchmarks](benchmarks.md#what-the-recipes-reach-on-public-data)",
    "multi-label": "micro F1 0.460, macro F1 0.219, mean average precision 0.242 (1,844 rows)",
    "pair-classification": "accuracy 0.944 (1,475 rows)",
    "pair-regression": "Spearman 0.719, Pearson 0.708 (1,998 rows)",
    "question-answering": "F1 0.971, exact match 0.949 (2,335 rows)",
    "causal-lm": "1.972 bits a byte (83 test rows, 20 epochs, one thread); a model of five bytes: 2.070",
    "embedding": "accuracy 0.824; recall at 1, 5, 10: 0.829, 0.892, 0.936 (official test rows)",
}

TAIL = """
## Training on few examples

Learn from eight train rows of each label, drawn by the seed. The test rows stay what they are.

```yaml
objective: {type: embedding}
data:
  sources: [{path: rows.csv}]
  fresh: {examples_per_label: 8}
```

## Models that write

`causal-lm` continues a prompt, `chat` answers under the tokenizer's chat template, `seq2seq` writes another text.

```yaml
objective: {type: causal-lm, max_length: 256, max_new_tokens: 120, continued: 0.3}
base_model: package:evertune/models/gpt2_bytes
```

- **Base models.** A folder with `config.json` and a tokenizer but no weights starts at random from `training.seed`. Evertune brings
  `gpt2_bytes` and `t5_bytes`. `causal-lm` and `chat` take decoders, also GGUF files. `seq2seq` takes models of T5's kind.
- **Rows.** A prompt of `chat` is a text, or a dialogue as JSON: `[{"role": "user", "content": "..."}]`. The prompt itself teaches
  nothing. A row without an answer is refused, and so is a dialogue that ends with the assistant's words.
- **Writing** is greedy by default, so each prompt has one answer in every process. With `temperature` above 0, words are drawn from
  a generator that starts anew for each batch. `seq2seq` can search with `beams`.
- **Time.** `continued` and `answered` name the share of rows that is written for the metrics; it is always the same rows.
- **What a first version must beat** is the commonest target. For the likelihood it is a model that knows how often each byte
  appears in the test texts, and no context.

`configs/lm_shakespeare.yaml` with 20 epochs (5,155 steps, two shared cores, one thread, one seed): perplexity 18.2 by token, distinct-1
0.57, repetition 0.08. The weights of epoch 14.5 were kept:

| epoch | 4.8 | 5.8 | 6.8 | 7.8 | 8.7 | 9.7 | 10.7 | 11.6 | 12.6 | 14.5 | 16.5 | 20.0 |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
| bits a byte, validation | 2.334 | 2.229 | 2.152 | 2.097 | 2.058 | 2.021 | 2.005 | 1.986 | 1.977 | 1.973 | 1.979 | 1.984 |

The model of five bytes, to compare with, is an interpolated Kneser-Ney model on the same rows:

```console
$ python -m benchmarks.quality.ngrams configs/lm_shakespeare.yaml
```

## Pictures

A picture's cell holds the bytes of its file, the `{bytes, path}` that `datasets` writes, base64 (also as a `data:` URI), or a
file name relative to its table. PNG, JPEG, GIF, WebP, BMP and TIFF are read at any size; transparency becomes white.

A base model may be a folder with a `config.json` and no weights. It starts at random from `training.seed`. Evertune brings three:

```yaml
objective: {type: image-classification}
base_model: package:evertune/models/vit_tiny      # or resnet_tiny; image_codes_tiny for image-tokens
```

`text-to-image` works in two stages, as DALL-E does (Ramesh et al. 2021), with a classifier that judges the drawn pictures. Its recipe
names the champions of the other two recipes. It retrains when one of them changes.

## Building on another recipe's champion

`masked-lm` goes on with pretraining on bare texts. Another recipe of the same home can use its champion as base model:

```yaml
base_model: champion:bank-pretraining
```

It retrains when that champion changes.

## Baseline without training

The report of a model that gives a text one label also shows what the base model reaches untrained.

- An encoder picks the label whose name, or whose `objective.descriptions`, is nearest to the text. Nearness is the cosine of
  mean token states (Yin et al. 2019).
- A decoder is prompted with the text and up to 20 labels. It picks the label that is likeliest, by the mean log-likelihood of
  its tokens (Brown et al. 2020), less its likelihood without the text (Holtzman et al. 2021).
- For `multi-label` the baseline is the mean average precision of that ranking.
- Pairs, tags and pictures have no such baseline.

| base model | rows | accuracy untrained |
|---|---|---|
| MiniLM-L6 | banking77 | 0.574 |
| SmolLM2-135M-Instruct, 4 bits | 123 sample tickets, 15 labels | 0.195 (chance: 0.067) |
| SmolLM2-135M-Instruct, 4 bits | 97 IMDB reviews, 2 labels | 0.608, macro F1 0.402 |

A decoder reads at most 200 rows and about 20,000 tokens, evenly spaced over the test rows. An encoder reads at most 500 rows.
The baseline decides nothing.
"""


def page() -> str:
    """Return the page as Markdown."""
    return HEAD + "\n".join([*render_overview(), *render_details()]) + TAIL


def render_overview() -> Iterator[str]:
    """Yield the lines of the table that compares the objectives."""
    yield "| objective | learns | columns | shipped recipes | reached |\n|---|---|---|---|---|"
    recipes = find_recipes()
    for name in TABLE:
        objective = load_objective(name)
        summary = read_description(objective).split(". ")[0].rstrip(".") + "."
        columns = quote_names(objective.COLUMNS)
        shipped_recipes = quote_names(recipes.get(name, []))
        yield f"| [`{name}`](#{name}) | {summary} | {columns} | {shipped_recipes} | {RESULTS.get(name, '')} |"
    yield "\nReached: on the test rows, one seed, 2 shared cores of an AMD EPYC with AVX512-BF16, `evertune run RECIPE`.\n"


def render_details() -> Iterator[str]:
    """Yield a section for each objective."""
    for name in TABLE:
        objective = load_objective(name)
        outputs = ", ".join(f"`{output}` ({kind})" for output, kind in objective.OUTPUTS.items())
        options = [option for option in objective.Options.model_fields if option != "type"]
        yield f"## `{name}`\n\n{read_description(objective)}\n\n| | |\n|---|---|"
        yield f"| inputs | {describe_columns(objective.COLUMNS, objective.INPUTS)} |"
        yield f"| target | {describe_columns(objective.COLUMNS, (objective.TARGET,))} |"
        yield f"| outputs | {outputs} |"
        yield f"| [metrics](metrics.md) | {quote_names(objective.METRICS)} (default first) |"
        yield f"| options | {quote_names(options)} ([meaning](recipe.md#{name})) |"
        yield f"| base model of `evertune new` | `{objective.BASE_MODEL}` |"
        yield from render_notes(objective)
        yield ""


def render_notes(objective: Any) -> Iterator[str]:
    """Yield the table row of what is special about an objective, if anything is."""
    notes = []
    if objective.COUPLED:
        notes.append("Rows of a batch learn from each other: one process, and batches are never cut.")
    if objective.IN_BLOCKS:
        notes.append("Long rows are learned in blocks; nothing is cut.")
    if objective.STARTS_AT_RANDOM:
        notes.append("The base model may be a configuration and a tokenizer without weights.")
    if objective.IGNORED_SETTINGS:
        settings = quote_names(f"training.{setting}" for setting in objective.IGNORED_SETTINGS)
        notes.append(f"Refused, because without effect: {settings}.")
    if objective.ABSOLUTE_METRICS:
        metrics = quote_names(objective.ABSOLUTE_METRICS)
        notes.append(f"Compared in their own unit, not in points: {metrics}.")
    if notes:
        yield f"| notes | {' '.join(notes)} |"


def describe_columns(columns: Mapping[str, str], roles: Iterable[str]) -> str:
    """Return the columns of these roles, each with what it holds."""
    return ", ".join(f"`{role}` ({columns[role]})" for role in roles)


def quote_names(names: Iterable[str]) -> str:
    """Return the names as code, with commas between."""
    return ", ".join(f"`{name}`" for name in names)


def read_description(objective: Any) -> str:
    """Return the docstring of an objective's options on one line."""
    return inspect.cleandoc(objective.Options.__doc__).replace("\n\n", " ").replace("\n", " ")


def find_recipes() -> dict[str, list[str]]:
    """Return the paths of the shipped recipes by objective."""
    recipes: dict[str, list[str]] = {}
    for path in sorted(CONFIGS.glob("*.yaml")):
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(tree, dict) and isinstance(tree.get("objective"), dict):
            recipes.setdefault(tree["objective"]["type"], []).append(f"configs/{path.name}")
    return recipes
