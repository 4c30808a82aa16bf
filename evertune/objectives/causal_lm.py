"""Language modelling: predicts a text token by token; served, it continues a prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, Self, TypedDict, cast

import numpy as np
from pydantic import Field, model_validator

from .shared import generated_text, padding
from .shared.types import Batch, Columns, EncodedRow, Floats, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores

COLUMNS = {"text": "string"}
INPUTS = ("text",)
TARGET = "text"
LABELED = False
ENCODES_TARGET = False
ASSESSED = True
IN_BLOCKS = True
OUTPUTS = {"continuation": "string"}
METRICS = ("bits_per_byte", "perplexity", *generated_text.VARIETY_METRICS)
BASE_MODEL = "package:evertune/models/gpt2_bytes"
STARTS_AT_RANDOM = True
IGNORED_SETTINGS = generated_text.IGNORED_SETTINGS
LOWER_IS_BETTER = generated_text.FALLING_METRICS
ABSOLUTE_METRICS = generated_text.LIKELIHOOD_METRICS


class Options(generated_text.GenerationOptions):
    """A text, token by token. Column: `text`. Longer texts are split into blocks; nothing is cut off."""

    type: Literal["causal-lm"] = Field("causal-lm", description="Name of the objective.")
    max_length: int = Field(256, ge=4, description="Tokens of a block, the context that the model learns from.")
    continued: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the evaluated texts whose first half the model continues, to measure its output.",
    )

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        if self.max_new_tokens >= self.max_length:
            raise ValueError(generated_text.NO_ROOM.format(self.max_new_tokens, self.max_length))
        return self


class Example(TokenExample):
    """A prompt to continue, or a whole text, of which all but the input ids is known.

    Args:
        starts: of the text's blocks.
        ends: of its blocks.
        prompt: that the model continues, where it continues this text.
        labels: number of tokens that are predicted.
        bytes: of the text.
    """

    starts: NotRequired[Ids]
    ends: NotRequired[Ids]
    prompt: NotRequired[Ids]
    labels: NotRequired[int]
    bytes: NotRequired[int]


class Prediction(TypedDict):
    """How a prompt continues; of a known text its likelihood and the prompt, both texts None if it is not continued."""

    continuation: str | None
    nats: NotRequired[float]
    tokens: NotRequired[int]
    bytes: NotRequired[int]
    prompt: NotRequired[str | None]


def explain_unfit(path: Path) -> str | None:
    """Explain why a base model cannot be used; None if it can."""
    return generated_text.explain_unfit(path, "decoder")


def encode(inputs: Sequence[str], tokenizer: "PreTrainedTokenizerBase", options: Options) -> Columns:
    """Encode whole texts as token ids, with the bounds of their blocks and a prompt to continue.

    A block begins with the last token of the one before, so every token is predicted once, from its own text.
    """
    start = generated_text.get_start_token(tokenizer)
    end = generated_text.get_end_token(tokenizer)
    ids = generated_text.tokenize_texts(tokenizer, inputs)
    step = options.max_length - 1
    return {
        "input_ids": [[start, *text_ids, end] for text_ids in ids],
        "full_length": [len(text_ids) + 2 for text_ids in ids],
        "starts": [list(range(0, len(text_ids) + 1, step)) for text_ids in ids],
        "ends": [
            [min(first + step + 1, len(text_ids) + 2) for first in range(0, len(text_ids) + 1, step)]
            for text_ids in ids
        ],
        "prompt": [
            _cut_prompt(text_ids, start, options) if generated_text.is_selected(text_ids, options.continued) else []
            for text_ids in ids
        ],
    }


def _cut_prompt(ids: Sequence[int], start: int, options: Options) -> list[int]:
    """The first half of a text, cut to the room that generation leaves."""
    return [start, *ids[: min((len(ids) + 1) // 2, options.max_length - options.max_new_tokens - 1)]]


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights in fp32, or at random where the base has a configuration only."""
    return generated_text.build_model("AutoModelForCausalLM", path, options)


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    return generated_text.load_model("AutoModelForCausalLM", path)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target it is an open prompt, of a long one only the end."""
    if target is None:
        return {"input_ids": encoded["input_ids"][:-1][-encoded["ends"][0] :]}
    return {
        "input_ids": encoded["input_ids"],
        "starts": encoded["starts"],
        "ends": encoded["ends"],
        "prompt": encoded["prompt"],
        "labels": len(encoded["input_ids"]) - 1,
        "bytes": len(target.encode()),
    }


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad the blocks of all texts, in order: `input_ids`, `attention_mask` and `labels`, all (blocks, length).

    Labels are not shifted, as in `transformers`; a block's first token has none.
    """
    blocks = [block for row in examples for block in _split_blocks(row)]
    batch = {"input_ids": padding.pad_rows(blocks, pad_id), "attention_mask": padding.make_mask(blocks)}
    if "labels" in examples[0]:
        batch["labels"] = padding.pad_rows(
            [[generated_text.IGNORED, *block[1:]] for block in blocks], generated_text.IGNORED
        )
    return batch


def _split_blocks(row: Example) -> list[Ids]:
    if "starts" not in row:
        return [row["input_ids"]]
    return [row["input_ids"][start:end] for start, end in zip(row["starts"], row["ends"], strict=True)]


def compute_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
) -> "torch.Tensor":
    """Compute cross-entropy of all tokens but the first of each block, summed."""
    return generated_text.compute_loss(logits[:, :-1], labels[:, 1:], smoothing)


def predict_batch(
    model: "PreTrainedModel",
    batch: Batch,
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> tuple[list[Prediction], float]:
    """Continue prompts; of known texts compute the likelihood, and continue some."""
    if "labels" not in batch:
        return decode(model, examples, names, conventions), 0.0
    block_nats = [
        float(cost)
        for part in generated_text.split_batch(batch, model.config.vocab_size)
        for cost in compute_row_nats(model, part)
    ]
    ends = np.cumsum([len(row["starts"]) for row in examples])
    text_nats = [sum(block_nats[end - len(row["starts"]) : end]) for row, end in zip(examples, ends, strict=True)]
    chosen_indices = [index for index, row in enumerate(examples) if len(row["prompt"])]
    outputs = dict(
        zip(
            chosen_indices,
            generated_text.continue_prompts(model, [examples[index]["prompt"] for index in chosen_indices]),
            strict=True,
        )
    )
    predictions: list[Prediction] = [
        {
            "continuation": outputs.get(index),
            "nats": total,
            "tokens": row["labels"],
            "bytes": row["bytes"],
            "prompt": model.tokenizer.decode(row["prompt"][1:]) if index in outputs else None,
        }
        for index, (row, total) in enumerate(zip(examples, text_nats, strict=True))
    ]
    return predictions, sum(text_nats)


def compute_row_nats(model: "PreTrainedModel", part: Batch) -> "torch.Tensor":
    """Compute the negative log-likelihood of each row's labels in nats, (rows,)."""
    labels = part.pop("labels")
    return generated_text.compute_nats(model(**part).logits[:, :-1], labels[:, 1:])


def decode(
    model: "PreTrainedModel", examples: Sequence[Example], names: Sequence[str], conventions: Mapping[str, object]
) -> list[Prediction]:
    """Continue each prompt; takes the model in place of its logits."""
    return [
        {"continuation": output}
        for output in generated_text.continue_prompts(model, [row["input_ids"] for row in examples])
    ]


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict bytes by their frequency alone."""
    return [
        {"continuation": None, "nats": nats, "tokens": len(target.encode()) + 1, "bytes": len(target.encode())}
        for target, nats in zip(targets, generated_text.compute_byte_nats(targets), strict=True)
    ]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return for each row nats, tokens, bytes; 1 if it was continued, then variety and repetition, (rows, 7)."""
    rows = []
    for prediction in predictions:
        output = prediction["continuation"]
        rows.append(
            [
                prediction["nats"],
                prediction["tokens"],
                prediction["bytes"],
                *((0.0,) * 4 if output is None else (1.0, *generated_text.measure_variety(output))),
            ]
        )
    return np.array(rows, dtype=np.float64).reshape(len(rows), 7)


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., 7) -> (...)."""
    sums = np.asarray(sums, dtype=np.float64)
    return {
        **generated_text.compute_likelihood(sums[..., :3]),
        **generated_text.compute_means(sums[..., 3:], generated_text.VARIETY_METRICS),
    }


def make_excerpt(source: str, target: str, prediction: Prediction) -> tuple[str, str, str] | None:
    """Return a prompt, how its text continues, and how the model continues it; None for texts not continued."""
    prompt = prediction["prompt"]
    if prompt is None:
        return None
    return prompt, target[len(prompt) :], cast(str, prediction["continuation"])  # continued, as it has a prompt


def score_predictions(targets: Sequence[str], predictions: Sequence[Prediction]) -> "RowScores":
    """Score each row by its bits per byte."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.use_losses(
        [prediction["nats"] / np.log(2) for prediction in predictions],
        [prediction["bytes"] for prediction in predictions],
    )
