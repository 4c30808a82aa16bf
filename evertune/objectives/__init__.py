"""The table of objectives: what a model can be tuned for. One file an objective, one line here.

An objective's file stands alone: it imports nothing of Evertune, because a copy of it travels in every model bundle,
and the served model encodes, collates and decodes with the very code that training and evaluation used. It offers

- `Options`: a frozen pydantic model with `type: Literal[NAME]`, the recipe's `objective` section;
- `COLUMNS`: role -> kind, the inputs first, then the target; a kind is `string`, `strings` (words, or tags of words),
  `labels` (a set of them), `number`, `span` (of a text) or `image`; in tables those of `LISTS` are lists of strings,
  all others strings;
- `INPUTS`: the roles that a prediction is made from; an input is a value, or a tuple of values where they are several;
- `TARGET`: the role that a model learns to give, which may be an input too: a language model's text;
- `LABELED`: whether targets are labels, which the contract knows and counts, and a model has outputs for;
- `ENCODES_TARGET`: whether `encode` takes the targets too, where they are known; `ASSESSED`: whether predictions hold
  more where they are, such as how likely the model finds each: what `statistics` needs and no user asks for;
- `TRAVELS_WITH`: names of the neighbours in this folder that it imports, relatively;
- `OUTPUTS`: name -> kind (`string`, `number`, `strings`, `numbers`) of what a prediction holds;
- `METRICS`: names of the metrics, the default first, and `LOWER_IS_BETTER`, those of them that fall;
- `encode(inputs, tokenizer, options) -> {column: list}` with `input_ids` and `full_length`, for training and serving;
- `label_values(targets) -> list[str]`: every label in a list of targets, repeated as often as it stands there;
- `conventions(targets) -> dict`: what decoding must know of the train targets, JSON-ready; the bundle's card keeps it;
- `build(path, labels, options) -> model` from base weights; `load(path)` from saved ones;
- `example(encoded, target, label_ids) -> dict` and `collate(examples, pad_id) -> {name: tensor}`;
- `loss(logits, labels, weights, smoothing) -> sum over rows or words`;
- `decode(logits, examples, names, conventions) -> predictions`, each with the `OUTPUTS`;
- `majority(targets) -> predictions` of the commonest label alone, which every model must beat;
- `statistics(targets, predictions, names) -> array (rows, m)`, additive over rows, and
  `metrics(sums, names) -> {metric: array}` of any weighted sum of them: what makes every bootstrap a matrix product;
- `report(sums, names) -> dict`: per-class table and calibration, `pairs(targets, predictions)`: for a confusion matrix.

It may offer

- `BASE_MODEL`: what `evertune new` writes as base model;
- `IN_BLOCKS`: true where a row longer than the model is learned and judged in several blocks, and not cut;
- `problems(inputs, targets, options) -> [text or None]`: what is wrong with a row as a whole; targets may be None;
- `answer(model, batch, examples, names, conventions) -> (predictions, loss)` where logits are not all that it takes;
- `finish(model, examples, names)`: what is left to do when the weights have been learned;
- `COUPLED`: true where a row's loss depends on the other rows of its batch, which is then computed whole;
- `WITHOUT`: setting of `training` -> why it would change nothing of what is asked of it: a recipe with it is refused;
- `STARTS_AT_RANDOM`: true where a base model of texts may be a configuration and a tokenizer alone, without weights;
- `unfit(folder) -> text or None`: why a base model cannot be used, from the files of its folder alone;
- `sample(input, target, prediction) -> (given, wanted, said) or None`: a row of the report's samples, as texts.
- `MODELS`: options that name other models, as `base_model` does; `build` and `tokenizer` are given their folders;
- `tokenizer(path, options)`: what takes the place of the base model's tokenizer in `encode`; where it needs none, that
  has only `pad_token_id` and `save_pretrained`; raises ValueError where the base model does not fit;
- `NO_SHARES`: the metrics that are no shares of right rows, such as bits per byte: the gate tells and tests differences
  of them in their own unit, not in points;
- `states(model, batch) -> (rows, size)`: what the model sees in a row, where it is not the mean of its tokens' states.
"""

import functools
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import BaseModel

    class Options(BaseModel):
        """What the options of all objectives have."""

        type: str
        max_length: int  # of those that cut


TABLE = {
    "text-classification": "evertune.objectives.text_classification",
    "token-classification": "evertune.objectives.token_classification",
    "multi-label": "evertune.objectives.multi_label",
    "pair-classification": "evertune.objectives.pair_classification",
    "pair-regression": "evertune.objectives.pair_regression",
    "question-answering": "evertune.objectives.question_answering",
    "embedding": "evertune.objectives.embedding",
    "masked-lm": "evertune.objectives.masked_lm",
    "causal-lm": "evertune.objectives.causal_lm",
    "chat": "evertune.objectives.chat",
    "seq2seq": "evertune.objectives.seq2seq",
    "image-classification": "evertune.objectives.image_classification",
    "image-tokens": "evertune.objectives.image_tokens",
    "text-to-image": "evertune.objectives.text_to_image",
}
LISTS = ("strings", "labels")  # kinds of which a cell holds a list
ROLES = ("id", "timestamp", "group")  # what any row may carry beside its objective's own columns


@functools.cache
def load_objective(name: str) -> ModuleType:
    """The objective's module.

    Raises:
        KeyError: no such objective.
    """
    return importlib.import_module(TABLE[name])


def extract_cells(rows: "pa.Table", roles: Sequence[str]) -> list[Any]:
    """What stands under these roles: of each row a value, or a tuple of the values of several roles."""
    columns = [rows[role].to_pylist() for role in roles]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def no_shares(objective: ModuleType) -> tuple[str, ...]:
    """The metrics whose differences are no points: those that are no shares of right rows."""
    return getattr(objective, "NO_SHARES", ())


def is_coupled(objective: ModuleType) -> bool:
    """Whether a row's loss depends on the other rows of its batch."""
    return bool(getattr(objective, "COUPLED", False))


def shows_pictures(objective: ModuleType) -> bool:
    """Whether predictions are made from pictures."""
    return "image" in {objective.COLUMNS[role] for role in objective.INPUTS}


def encoded_roles(objective: ModuleType) -> list[str]:
    """The roles that `encode` takes, the target last where it is one of them."""
    return [*objective.INPUTS, *([objective.TARGET] if objective.ENCODES_TARGET else [])]


@functools.cache
def label_roles() -> frozenset[str]:
    """The roles under which labels stand, of any objective."""
    return frozenset(objective.TARGET for objective in map(load_objective, TABLE) if objective.LABELED)


def __getattr__(name: str) -> object:
    if name == "Options":
        return functools.reduce(
            lambda union, other: union | other, [load_objective(objective).Options for objective in TABLE]
        )
    raise AttributeError(name)
