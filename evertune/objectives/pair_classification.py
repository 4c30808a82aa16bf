"""Pair classification: predicts one label for two texts, such as whether one follows from the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from . import text_classification
from .shared import two_texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COLUMNS = {"text": "string", "text_pair": "string", "label": "string"}
INPUTS = ("text", "text_pair")
TARGET = "label"
LABELED = True
ENCODES_TARGET = False
OUTPUTS = text_classification.OUTPUTS
METRICS = text_classification.METRICS
LOWER_IS_BETTER = text_classification.LOWER_IS_BETTER


class Options(BaseModel):
    """One label for two texts. Columns: `text`, `text_pair`, `label`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["pair-classification"] = Field("pair-classification", description="Name of the objective.")
    max_length: int = Field(
        256, ge=8, description="Maximum tokens of both texts together; the longer one is cut first."
    )
    pooling: Literal["mean", "model"] = Field(
        "mean", description="Input of the head: the mean of the token states, or what the model's own head uses."
    )


encode = two_texts.encode
load_model = text_classification.load_model
make_example = text_classification.make_example
collate = text_classification.collate
compute_loss = text_classification.compute_loss
decode = text_classification.decode
predict_majority = text_classification.predict_majority
list_labels = text_classification.list_labels
compute_statistics = text_classification.compute_statistics
compute_metrics = text_classification.compute_metrics
summarize_classes = text_classification.summarize_classes
pair_labels = text_classification.pair_labels
score_outputs = text_classification.score_outputs
explain_unfit = text_classification.explain_unfit


def build_model(path: str, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head of one output per label, in fp32."""
    return text_classification.build_model(
        path, labels, text_classification.Options(max_length=options.max_length, pooling=options.pooling)
    )
