"""The table of objectives: what a model can be tuned for. One file an objective, one line here.

An objective's file stands alone: it imports nothing of Evertune, because a copy of it travels in every model bundle,
and the served model encodes, collates and decodes with the very code that training and evaluation used. It offers

- `Options`: a frozen pydantic model with `type: Literal[NAME]`, the recipe's `objective` section;
- `COLUMNS`: role -> kind (`string` or `strings`), the input first, then the target;
- `OUTPUTS`: name -> kind (`string`, `number`, `strings`, `numbers`) of what a prediction holds;
- `METRICS`: names of the metrics, the default first, and `LOWER_IS_BETTER`, those of them that fall;
- `encode(inputs, tokenizer, options) -> {column: list}` with `input_ids`, for training and serving alike;
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
"""

import functools
import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

    class Options(BaseModel):
        """What the options of all objectives have."""

        type: str
        max_length: int


TABLE = {
    "text-classification": "evertune.objectives.text_classification",
    "token-classification": "evertune.objectives.token_classification",
}
ROLES = ("id", "timestamp", "group")  # what any row may carry beside its objective's own columns


@functools.cache
def module(name: str) -> ModuleType:
    """The objective's module.

    Raises:
        KeyError: no such objective.
    """
    return importlib.import_module(TABLE[name])


def __getattr__(name: str) -> object:
    if name == "Options":
        return functools.reduce(lambda union, other: union | other, [module(objective).Options for objective in TABLE])
    raise AttributeError(name)
