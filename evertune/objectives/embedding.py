"""Embedding: maps texts to vectors, near each other for one label, for retrieval and few-shot classification.

The encoder is trained contrastively, then a logistic regression learns the labels from its vectors (SetFit: Tunstall et
al. 2022). Instead of SetFit's sampled pairs a batch gives all of its pairs (supervised contrastive loss: Khosla et
al. 2020, equation 2), so that a step learns from thousands of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from . import text_classification
from .shared import encoder_model
from .shared.types import Batch, Floats, Statistics

if TYPE_CHECKING:
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import PreTrainedConfig, PreTrainedModel

    from evertune.objectives.shared.proper_scores import RowScores
    from evertune.objectives.shared.scoring import ClassSummary

COLUMNS = {"text": "string", "label": "string"}
INPUTS = ("text",)
TARGET = "label"
LABELED = True
ENCODES_TARGET = False
ASSESSED = True
COUPLED = True  # a row's loss depends on its pairs
OUTPUTS = {"label": "string", "score": "number", "embedding": "numbers"}
KS = (1, 5, 10)
METRICS = ("accuracy", "f1_macro", "f1_weighted", *(f"recall_at_{k}" for k in KS), "ece")
LOWER_IS_BETTER = ("ece",)
MOST = 20_000  # train rows that are kept for retrieval
IGNORED_SETTINGS = {
    "class_weights": "the encoder learns from pairs, and the head is fitted to all rows afterwards",
    "label_smoothing": "the encoder learns from pairs, and the head is fitted to the plain labels afterwards",
}
AT_ONCE = 256  # rows embedded at a time after training


class Options(text_classification.Options):
    """Vectors for texts, and their labels. Columns: `text`, `label`."""

    type: Literal["embedding"] = Field("embedding", description="Name of the objective.")  # type: ignore[assignment]
    pooling: Literal["auto", "mean", "last"] = Field(
        "auto",
        description="A text's vector: the mean of the token states, or the last token's. `auto`: the mean for an "
        "encoder; the last for a decoder, where only the last token has seen the whole text.",
    )
    temperature: float = Field(
        0.1, gt=0, le=1, description="Temperature of the contrastive loss; lower ones concentrate on the nearest rows."
    )


class Prediction(text_classification.Prediction):
    """Also the text's vector; with known labels the labels of the nearest train rows."""

    embedding: list[float]
    nearest: NotRequired[list[str]]


encode = text_classification.encode
list_labels = text_classification.list_labels
make_example = text_classification.make_example
collate = text_classification.collate
pair_labels = text_classification.pair_labels
explain_unfit = text_classification.explain_unfit


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head and an empty index, in fp32."""
    import torch

    config = encoder_model.load_config(path, labels)
    config.contrastive_temperature = options.temperature
    config.index_size = 0
    config.pooling = text_classification.choose_pooling(options, config)
    return _model_class(config).from_pretrained(path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True)


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    config.pooling = getattr(config, "pooling", "mean")  # the only pooling of older models
    return _model_class(config).from_pretrained(path, config=config, dtype=torch.float32)


def _model_class(config: "PreTrainedConfig") -> "type[PreTrainedModel]":
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Embedder(encoder_model.make_model_class(config)):  # type: ignore[misc]
        """A base model, its pooled token states as a vector of length 1, and a linear head that does not train it."""

        def __init__(self, config: "PreTrainedConfig") -> None:
            super().__init__(config)
            self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
            self.index = torch.nn.Parameter(torch.zeros(config.index_size, config.hidden_size), requires_grad=False)
            self.index_labels = torch.nn.Parameter(torch.zeros(config.index_size), requires_grad=False)
            self.post_init()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
            hidden = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            seen = text_classification.pool_states(hidden, attention_mask, self.config.pooling)
            vector = torch.nn.functional.normalize(seen.float(), dim=-1)
            scores = self.classifier(vector.detach())
            return SequenceClassifierOutput(logits=(vector / self.config.contrastive_temperature**0.5, scores))

    return Embedder


def compute_loss(
    logits: tuple["torch.Tensor", "torch.Tensor"],
    labels: "torch.Tensor",
    weights: "torch.Tensor | None" = None,
    smoothing: float = 0.0,
) -> "torch.Tensor":
    """Compute the supervised contrastive loss of all pairs, and the head's cross-entropy, summed over the rows.

    A row that is alone with its label has no pair; it only pushes others away.

    Args:
        logits: vectors of length 1 / sqrt(temperature), (rows, size), and scores of the labels, (rows, labels).
    """
    import torch

    vectors, scores = logits
    head = text_classification.compute_loss(scores, labels, weights, smoothing)
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    is_pair = (labels[:, None] == labels[None, :]) & others
    similarities = (vectors @ vectors.T).float().masked_fill(~others, float("-inf"))
    surprise = torch.logsumexp(similarities, 1, keepdim=True) - similarities
    count = is_pair.sum(1)
    each = surprise.masked_fill(~is_pair, 0.0).sum(1) / count.clamp(min=1)
    return each[count > 0].sum() + head


def finish_model(
    model: "PreTrainedModel", examples: Sequence[text_classification.Example], names: Sequence[str]
) -> None:
    """Fit the head to the vectors of all train rows (Tunstall et al. 2022, section 3.2), and store them as the index.

    Of more than `MOST` rows that many are stored, evenly spaced.
    """
    import torch
    from sklearn.linear_model import LogisticRegression

    vectors = _embed_rows(model, examples)
    labels = np.array([row["labels"] for row in examples])
    fitted = LogisticRegression(max_iter=1000, C=10.0).fit(vectors, labels)
    with torch.no_grad():
        weight, bias = _expand_head(fitted, len(names))
        model.classifier.weight.copy_(torch.from_numpy(weight))
        model.classifier.bias.copy_(torch.from_numpy(bias))
    kept_indices = np.linspace(0, len(labels) - 1, min(MOST, len(labels))).astype(int)
    model.config.index_size = len(kept_indices)
    model.index = torch.nn.Parameter(torch.from_numpy(vectors[kept_indices]), requires_grad=False)
    model.index_labels = torch.nn.Parameter(torch.from_numpy(labels[kept_indices]).float(), requires_grad=False)


def _expand_head(fitted: "LogisticRegression", labels: int) -> tuple[Floats, Floats]:
    """Weights and biases with a row per label: scikit-learn has one row for two labels, and none for unseen ones."""
    coefficients = fitted.coef_
    intercepts = fitted.intercept_
    if len(fitted.classes_) == 2:
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.append(-intercepts, intercepts) / 2
    weight = np.zeros((labels, coefficients.shape[1]))
    bias = np.full(labels, -20.0)
    weight[fitted.classes_] = coefficients
    bias[fitted.classes_] = intercepts
    return weight, bias


def _embed_rows(model: "PreTrainedModel", examples: Sequence[text_classification.Example]) -> NDArray[np.float32]:
    """Vectors of length 1, (rows, size), in fp32."""
    import torch

    was_training = model.training
    chunks = []
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(examples), AT_ONCE):
            part = [examples[index] for index in range(start, min(start + AT_ONCE, len(examples)))]
            batch = {name: value.to(model.device) for name, value in collate(part, 0).items() if name != "labels"}
            vectors, _ = model(**batch).logits
            chunks.append(torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy())
    model.train(was_training)
    return np.concatenate(chunks)


def predict_batch(
    model: "PreTrainedModel",
    batch: Batch,
    examples: Sequence[text_classification.Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> tuple[list[Prediction], float]:
    """Predict label and vector of each row; where labels are known, add the loss and the nearest rows' labels."""
    import torch

    labels = batch.pop("labels", None)
    vectors, scores = model(**batch).logits
    vectors = torch.nn.functional.normalize(vectors.float(), dim=-1)
    labelled = text_classification.decode(scores, examples, names, conventions)
    predictions: list[Prediction] = [
        {"label": prediction["label"], "score": prediction["score"], "embedding": vector}
        for prediction, vector in zip(labelled, vectors.tolist(), strict=True)
    ]
    if labels is None:
        return predictions, 0.0
    size = min(max(KS), len(model.index))
    nearest = (vectors @ model.index.float().T).topk(size).indices
    near = model.index_labels[nearest].long().tolist()
    with_nearest: list[Prediction] = [
        {**prediction, "nearest": [names[label_id] for label_id in row]}
        for prediction, row in zip(predictions, near, strict=True)
    ]
    return with_nearest, float(compute_loss((vectors / model.config.contrastive_temperature**0.5, scores), labels))


def decode(
    logits: tuple["torch.Tensor", "torch.Tensor"],
    examples: Sequence[text_classification.Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> list[Prediction]:
    """Predict the likeliest label of each row, its probability, and the vector."""
    vectors, scores = logits
    predictions = text_classification.decode(scores, examples, names, conventions)
    return [
        {"label": prediction["label"], "score": prediction["score"], "embedding": vector}
        for prediction, vector in zip(predictions, vectors.tolist(), strict=True)
    ]


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the commonest label for every row, with score 1 and neighbours of that label alone."""
    return [
        {**prediction, "embedding": [], "nearest": [prediction["label"]]}
        for prediction in text_classification.predict_majority(targets)
    ]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Statistics:
    """Return counts of each row: those of text classification; for each k whether its label is among the k nearest."""
    near = [
        [target in prediction["nearest"][:k] for k in KS]
        for target, prediction in zip(targets, predictions, strict=True)
    ]
    return np.concatenate(
        [text_classification.compute_statistics(targets, predictions, names), np.array(near, dtype=np.float32)], axis=1
    )


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., m) -> (...)."""
    sums = np.asarray(sums)
    values = text_classification.compute_metrics(sums[..., : -len(KS)], names)
    rows = sums[..., : len(names)].sum(-1)
    recalls = {f"recall_at_{k}": sums[..., column - len(KS)] / rows for column, k in enumerate(KS)}
    return {**{name: values[name] for name in METRICS if name in values}, **recalls}


def summarize_classes(sums: Floats, names: Sequence[str]) -> "ClassSummary":
    """Summarize precision, recall, F1 and support by class, and the reliability curve."""
    return text_classification.summarize_classes(sums[: -len(KS)], names)


def score_outputs(
    logits: tuple["torch.Tensor", "torch.Tensor"],
    examples: Sequence[text_classification.Example],
    targets: Sequence[str],
    names: Sequence[str],
    classes: int,
) -> "RowScores":
    """Score each row by the probability of its label."""
    return text_classification.score_outputs(logits[1], examples, targets, names, classes)
