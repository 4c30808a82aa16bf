"""Sequence to sequence: writes a text from a text, such as a summary or a translation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import numpy as np
from pydantic import Field

from .shared import generated_text, padding
from .shared.types import Batch, Columns, EncodedRow, Floats, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores

COLUMNS = {"text": "string", "target": "string"}
INPUTS = ("text",)
TARGET = "target"
LABELED = False
ENCODES_TARGET = True
ASSESSED = True
OUTPUTS = {"target": "string"}
METRICS = ("chrf", "bleu", "rouge_l", "exact_match", "bits_per_byte")
BASE_MODEL = "package:evertune/models/t5_bytes"
STARTS_AT_RANDOM = True
IGNORED_SETTINGS = generated_text.IGNORED_SETTINGS
LOWER_IS_BETTER = ("bits_per_byte",)
ABSOLUTE_METRICS = ("bits_per_byte",)
NGRAMS = 4  # orders of BLEU and chrF, and the weight of recall, as in sacrebleu
CHARACTERS = 6
BETA = 2


class Options(generated_text.GenerationOptions):
    """A text from a text. Columns: `text`, `target`."""

    type: Literal["seq2seq"] = Field("seq2seq", description="Name of the objective.")
    max_length: int = Field(256, ge=8, description="Maximum tokens of the source; longer sources are cut.")
    beams: int = Field(1, ge=1, le=16, description="Beams of the beam search; 1: greedy.")


class Example(TokenExample):
    """A source, with its target's tokens and bytes where that is known."""

    labels: NotRequired[Ids]
    bytes: NotRequired[int]


class Prediction(TypedDict):
    """The text for a source; with a known target its likelihood."""

    target: str
    nats: NotRequired[float]
    bytes: NotRequired[int]


def explain_unfit(path: Path) -> str | None:
    """Explain why a base model cannot be used; None if it can."""
    return generated_text.explain_unfit(path, "encoder-decoder")


def find_problems(inputs: Sequence[str | None], targets: Sequence[str | None], options: Options) -> list[str | None]:
    """Find empty targets."""
    return ["the target is empty" if target is not None and not target.strip() else None for target in targets]


def encode(
    inputs: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    options: Options,
    targets: Sequence[str] | None = None,
) -> Columns:
    """Encode sources and, where known, targets as token ids, each with an end token."""
    end = generated_text.get_end_token(tokenizer)
    ids = generated_text.tokenize_texts(tokenizer, inputs)
    encoded: dict[str, list[list[int]] | list[int]] = {
        "input_ids": [[*row_ids[: options.max_length - 1], end] for row_ids in ids],
        "full_length": [len(row_ids) + 1 for row_ids in ids],
    }
    if targets is not None:
        target_ids = generated_text.tokenize_texts(tokenizer, targets)
        encoded["target_ids"] = [[*row_ids[: options.max_new_tokens - 1], end] for row_ids in target_ids]
    return encoded


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights in fp32, or at random where the base has a configuration only."""
    return generated_text.build_model("AutoModelForSeq2SeqLM", path, options, num_beams=options.beams)


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    return generated_text.load_model("AutoModelForSeq2SeqLM", path)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target for serving."""
    row: Example = {"input_ids": encoded["input_ids"]}
    if target is None:
        return row
    return {**row, "labels": encoded["target_ids"], "bytes": len(target.encode())}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad rows to the longest: `input_ids`, `attention_mask`, `decoder_input_ids`, `labels`, all (rows, length).

    `decoder_input_ids` begin with the padding token, as T5's do.
    """
    batch = padding.pad_inputs(examples, pad_id)
    if "labels" in examples[0]:
        targets = [row["labels"] for row in examples]
        batch["labels"] = padding.pad_rows(targets, generated_text.IGNORED)
        batch["decoder_input_ids"] = padding.pad_rows([[pad_id, *target[:-1]] for target in targets], pad_id)
    return batch


def compute_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
) -> "torch.Tensor":
    """Compute cross-entropy of the targets' tokens, summed."""
    return generated_text.compute_loss(logits, labels, smoothing)


def predict_batch(
    model: "PreTrainedModel",
    batch: Batch,
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> tuple[list[Prediction], float]:
    """Write a text for each source; where targets are known, add their likelihood and the loss."""
    outputs = generated_text.decode_texts(
        model, generated_text.generate_ids(model, input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    )
    predictions: list[Prediction] = [{"target": output.strip()} for output in outputs]
    if "labels" not in batch:
        return predictions, 0.0
    nats = [
        float(cost)
        for part in generated_text.split_batch(batch, model.config.vocab_size)
        for cost in _row_nats(model, part)
    ]
    combined = zip(predictions, nats, examples, strict=True)
    return [{**prediction, "nats": cost, "bytes": row["bytes"]} for prediction, cost, row in combined], sum(nats)


def _row_nats(model: "PreTrainedModel", part: Batch) -> "torch.Tensor":
    labels = part.pop("labels")
    return generated_text.compute_nats(model(**part).logits, labels)


def decode(
    logits: "torch.Tensor", examples: Sequence[Example], names: Sequence[str], conventions: Mapping[str, object]
) -> list[Prediction]:
    """Not used: see `predict_batch`."""
    return []


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the commonest target for every row, with the likelihood of each target's bytes by their frequency."""
    top = Counter(targets).most_common(1)[0][0]
    target_nats = zip(targets, generated_text.compute_byte_nats(targets), strict=True)
    return [{"target": top, "nats": nats, "bytes": len(target.encode())} for target, nats in target_nats]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return for each row 1, nats, bytes, ROUGE-L, exact match; sacrebleu's counts for BLEU and chrF, (rows, 33)."""
    from sacrebleu.metrics import BLEU, CHRF

    outputs = [prediction["target"] for prediction in predictions]
    references = [list(targets)]
    rows = [
        [1.0, prediction["nats"], prediction["bytes"], *generated_text.measure_overlap(target, prediction["target"])]
        for target, prediction in zip(targets, predictions, strict=True)
    ]
    counts = [
        np.array(measure._extract_corpus_statistics(outputs, references), dtype=np.float64)
        for measure in (BLEU(), CHRF(char_order=CHARACTERS, beta=BETA))
    ]  # sacrebleu's own bootstrap adds these up too
    return np.concatenate([np.array(rows, dtype=np.float64), *counts], axis=1)


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., 33) -> (...).

    BLEU and chrF are between 0 and 1.
    """
    sums = np.asarray(sums, dtype=np.float64)
    rows, nats, size, rouge, exact = (sums[..., index] for index in range(5))
    with np.errstate(divide="ignore", invalid="ignore"):
        is_finite = np.isfinite(nats)
        return {
            "chrf": np.where(is_finite, _compute_chrf(sums[..., 7 + 2 * NGRAMS :]), np.nan),
            "bleu": np.where(is_finite, _compute_bleu(sums[..., 5 : 7 + 2 * NGRAMS]), np.nan),
            "rouge_l": rouge / rows,
            "exact_match": exact / rows,
            "bits_per_byte": nats / size / np.log(2),
        }


def _compute_bleu(sums: Floats) -> Floats:
    """BLEU (Papineni et al. 2002, section 2.3), as sacrebleu's `corpus_bleu` computes it.

    Orders without a match are smoothed by `exp`; texts of which none has four words have 0.

    Args:
        sums: (..., 10) lengths of outputs and references, matches and n-grams of each order.
    """
    output_size = sums[..., 0]
    reference_size = sums[..., 1]
    matches = sums[..., 2 : 2 + NGRAMS]
    passages = sums[..., 2 + NGRAMS :]
    missed = np.cumsum((matches == 0) & (passages > 0), axis=-1)
    precision = np.where(matches > 0, matches, 0.5**missed) / np.maximum(passages, 1)
    mean = np.log(precision).mean(-1)
    brevity = np.exp(np.minimum(0, 1 - reference_size / np.maximum(output_size, 1)))
    return np.where((matches[..., 0] > 0) & (passages > 0).all(-1), brevity * np.exp(mean), 0.0)


def _compute_chrf(sums: Floats) -> Floats:
    """The chrF score (Popovic 2015): F of recall and precision, each the mean over the orders that occur.

    Args:
        sums: (..., 18) n-grams of outputs, of references, and matches, of each order.
    """
    outputs, references, matches = (sums[..., index::3] for index in range(3))
    occurs = (outputs > 0) & (references > 0)
    orders = np.maximum(occurs.sum(-1), 1)
    precision = (np.where(occurs, matches / np.maximum(outputs, 1), 0)).sum(-1) / orders
    recall = (np.where(occurs, matches / np.maximum(references, 1), 0)).sum(-1) / orders
    denominator = BETA**2 * precision + recall
    return np.where(
        denominator > 0, (1 + BETA**2) * precision * recall / np.where(denominator > 0, denominator, 1), 0.0
    )


def make_excerpt(source: str, target: str, prediction: Prediction) -> tuple[str, str, str]:
    """Return a source, its target and the model's text."""
    return source, target, prediction["target"]


def score_predictions(targets: Sequence[str], predictions: Sequence[Prediction]) -> "RowScores":
    """Score each row by its bits per byte."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.use_losses(
        [prediction["nats"] / np.log(2) for prediction in predictions],
        [prediction["bytes"] for prediction in predictions],
    )
