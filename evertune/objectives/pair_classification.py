"""Pair classification: one label for two texts, such as whether one follows from the other."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from . import text_classification
from .shared import two_texts

COLUMNS = {"text": "string", "text_pair": "string", "label": "string"}
INPUTS = ("text", "text_pair")
TARGET = "label"
LABELED = True
ENCODES_TARGET = False
ASSESSED = False
TRAVELS_WITH = ("text_classification", "shared.two_texts")
OUTPUTS = text_classification.OUTPUTS
METRICS = text_classification.METRICS
LOWER_IS_BETTER = text_classification.LOWER_IS_BETTER


class Options(BaseModel):
    """One label for two texts. Columns: `text`, `text_pair`, `label`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["pair-classification"] = Field("pair-classification", description="Name of the objective.")
    max_length: int = Field(
        256, ge=8, description="Tokens of both texts that the model sees; the longer one is cut first."
    )
    pooling: Literal["mean", "model"] = Field(
        "mean", description="What the head sees: the mean of the token states, or what the model's own head takes."
    )


encode = two_texts.encode
load = text_classification.load
example = text_classification.example
collate = text_classification.collate
loss = text_classification.loss
decode = text_classification.decode
majority = text_classification.majority
label_values = text_classification.label_values
conventions = text_classification.conventions
statistics = text_classification.statistics
metrics = text_classification.metrics
report = text_classification.report
pairs = text_classification.pairs
unfit = text_classification.unfit


def build(path: str, labels: Sequence[str], options: Options) -> Any:
    """Base weights with a new head, in fp32, one output a label."""
    return text_classification.build(
        path, labels, text_classification.Options(max_length=options.max_length, pooling=options.pooling)
    )
