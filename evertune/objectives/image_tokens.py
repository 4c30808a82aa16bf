"""Image tokens: a picture as a small grid of codes, and back; the first stage of text-to-image.

Ramesh et al. 2021, section 2.1, with nearest codes (van den Oord et al. 2017) instead of relaxed ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .shared import pixels
from .shared.types import Batch, Columns, EncodedRow, Floats, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores

    from .shared.code_network import ImageCodes

COLUMNS = {"image": "image"}
INPUTS = ("image",)
TARGET = "image"
LABELED = False
ENCODES_TARGET = False
OUTPUTS = {"codes": "numbers", "image": "string"}
METRICS = ("psnr", "mse", "code_perplexity")
LOWER_IS_BETTER = ("mse",)
ABSOLUTE_METRICS = METRICS
IGNORED_SETTINGS = {
    "label_smoothing": "pictures are learned, not labels",
    "head_learning_rate": "the network has no head",
}
BASE_MODEL = "package:evertune/models/image_codes_tiny"
BINS = 1024  # codes that are counted; larger ones count as the last


class Options(BaseModel):
    """A picture as codes. Column: `image` (the bytes of a file, base64, or a file's name)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["image-tokens"] = Field("image-tokens", description="Name of the objective.")
    size: int = Field(
        32, ge=8, le=256, multiple_of=4, description="Pixels per side; each 4 x 4 pixels become one code."
    )
    flip: bool = Field(False, description="Mirror half of the pictures in training.")


class Example(TokenExample):
    """A picture; in training and evaluation its pixels are also the labels."""

    pixels: Ids
    labels: NotRequired[Ids]


class Prediction(TypedDict):
    """The codes of a picture, and the picture rebuilt from them as PNG in base64."""

    codes: list[float]
    image: str


def make_tokenizer(path: str | Path, options: Options) -> pixels.PictureTokenizer:
    """Check the base model; pictures need no tokenizer.

    Raises:
        ValueError: the base model does not make codes.
    """
    kind = pixels.read_config(path).get("model_type")
    if kind != "image-codes":
        raise ValueError(f"{kind} does not make codes of pictures; use package:evertune/models/image_codes_tiny")
    return pixels.PictureTokenizer()


def encode(inputs: Sequence[str], tokenizer: "PreTrainedTokenizerBase", options: Options) -> Columns:
    """Encode pictures as pixels."""
    return pixels.encode_pictures(inputs, options.size)


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build the network in fp32, from base weights where there are any."""
    from .shared.code_network import CodesConfig, ImageCodes

    model = load_model(path) if pixels.has_weights(path) else ImageCodes(CodesConfig.from_pretrained(path))
    if options.flip:
        pixels.augment_inputs(model, options.flip, 0.0, 0.0)
    return model


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch

    from .shared.code_network import ImageCodes

    return ImageCodes.from_pretrained(path, dtype=torch.float32)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target for serving."""
    row: Example = {"input_ids": encoded["input_ids"], "pixels": encoded["pixels"]}
    return row if target is None else {**row, "labels": encoded["pixels"]}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Stack pictures: `pixel_values` (rows, 3, size, size) from -1 to 1, and the same as `labels`."""
    pixel_values = pixels.stack_pictures([row["pixels"] for row in examples])
    return (
        {"pixel_values": pixel_values, "labels": pixel_values}
        if "labels" in examples[0]
        else {"pixel_values": pixel_values}
    )


def compute_loss(
    logits: tuple["torch.Tensor", "torch.Tensor", "torch.Tensor", "torch.Tensor"],
    labels: "torch.Tensor",
    weights: "torch.Tensor | None" = None,
    smoothing: float = 0.0,
) -> "torch.Tensor":
    """Compute squared error, summed over pixel values, plus the codebook and commitment losses on the same scale."""
    drawn, code_error, _, seen = logits  # in training pictures are augmented, so `seen` differs from `labels`
    return (drawn.float() - seen).square().sum() + code_error.float().sum() * labels[0].numel()


def decode(
    logits: tuple["torch.Tensor", "torch.Tensor", "torch.Tensor", "torch.Tensor"],
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> list[Prediction]:
    """Return the codes of each picture, and the picture rebuilt from them as PNG in base64."""
    drawn, _, codes, _ = logits
    return [
        {"codes": [float(code) for code in row], "image": picture}
        for row, picture in zip(codes.tolist(), pixels.encode_pngs(drawn), strict=True)
    ]


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the mean of all pictures for every row."""
    mean = np.mean([pixels.decode_picture(target, 32) for target in targets], axis=0).round()
    return [{"codes": [0.0], "image": pixels.encode_png(mean)} for _ in targets]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return for each row 1, mean squared error of values from 0 to 1, and the count of each code, (rows, 2 + BINS)."""
    counts = np.zeros((len(targets), 2 + BINS))
    for row, (target, prediction) in enumerate(zip(targets, predictions, strict=True)):
        drawn_pixels = pixels.decode_png(prediction["image"])
        true_pixels = pixels.decode_picture(target, len(drawn_pixels))
        counts[row, :2] = 1, np.mean(((drawn_pixels.astype(float) - true_pixels) / 255) ** 2)
        np.add.at(counts[row], 2 + np.minimum(np.array(prediction["codes"], dtype=int), BINS - 1), 1)
    return counts


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., 2 + BINS) -> (...).

    `psnr` is that of the mean error, in decibels. `code_perplexity` is the effective number of codes in use.
    """
    sums = np.asarray(sums, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mse = sums[..., 1] / sums[..., 0]
        share = sums[..., 2:] / sums[..., 2:].sum(-1, keepdims=True)
        entropy = -np.nan_to_num(share * np.log(share)).sum(-1)
        return {"psnr": -10 * np.log10(np.maximum(mse, 1e-10)), "mse": mse, "code_perplexity": np.exp(entropy)}


def compute_states(model: "ImageCodes", batch: Batch) -> "torch.Tensor":
    """Return the mean of each picture's states, (rows, code_size)."""
    return model.states(batch["pixel_values"])[0].mean((2, 3))


def score_predictions(targets: Sequence[str], predictions: Sequence[Prediction]) -> "RowScores":
    """Score each row by its squared error."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.use_losses(compute_statistics(targets, predictions, ())[:, 1])
