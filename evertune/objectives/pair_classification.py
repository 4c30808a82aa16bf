"""Pair classification: one label for two texts, such as whether one follows from the other."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from . import text_classification as single
from .shared import two_texts

COLUMNS = {"text": "string", "text_pair": "string", "label": "string"}
INPUTS, TARGET = ("text", "text_pair"), "label"
LABELED, ENCODES_TARGET, ASSESSED = True, False, False
TRAVELS_WITH = ("text_classification", "shared.two_texts")
OUTPUTS, METRICS, LOWER_IS_BETTER = single.OUTPUTS, single.METRICS, single.LOWER_IS_BETTER


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


encode, load, example, collate = two_texts.encode, single.load, single.example, single.collate
loss, decode, majority, label_values = single.loss, single.decode, single.majority, single.label_values
conventions, statistics, metrics = single.conventions, single.statistics, single.metrics
report, pairs, unfit = single.report, single.pairs, single.unfit


def build(path: str, labels: Sequence[str], options: Options) -> Any:
    """Base weights with a new head, in fp32, one output a label."""
    return single.build(path, labels, single.Options(max_length=options.max_length, pooling=options.pooling))
