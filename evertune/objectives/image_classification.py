"""Image classification: predicts one label for a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field

from . import text_classification
from .shared import encoder_model, pixels
from .shared.types import Batch, Columns, EncodedRow, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COLUMNS = {"image": "image", "label": "string"}
INPUTS = ("image",)
TARGET = "label"
LABELED = True
ENCODES_TARGET = False
OUTPUTS = {"label": "string", "score": "number"}
METRICS = ("accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro", "recall_macro", "ece")
LOWER_IS_BETTER = ("ece",)
BASE_MODEL = "package:evertune/models/resnet_tiny"  # a configuration without weights


class Options(BaseModel):
    """One label for a picture. Columns: `image` (the bytes of a file, base64, or a file's name), `label`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["image-classification"] = Field("image-classification", description="Name of the objective.")
    size: int = Field(32, ge=4, le=512, description="Pixels per side; all pictures are resized to this.")
    flip: bool = Field(False, description="Mirror half of the pictures in training.")
    shift: float = Field(0.1, ge=0, le=0.5, description="Shift pictures in training by up to this share of a side.")
    zoom: float = Field(0.1, ge=0, le=0.5, description="Zoom pictures in training by up to this share.")


class Example(TokenExample):
    """A picture, and the id of its label."""

    pixels: Ids
    labels: NotRequired[int]


list_labels = text_classification.list_labels
compute_loss = text_classification.compute_loss
decode = text_classification.decode
predict_majority = text_classification.predict_majority
compute_statistics = text_classification.compute_statistics
compute_metrics = text_classification.compute_metrics
summarize_classes = text_classification.summarize_classes
pair_labels = text_classification.pair_labels
score_outputs = text_classification.score_outputs


def make_tokenizer(path: str | Path, options: Options) -> pixels.PictureTokenizer:
    """Check the base model; pictures need no tokenizer.

    Raises:
        ValueError: the base model does not take pictures, or not of this size.
    """
    config = pixels.read_config(path)
    size = config.get("image_size", options.size)
    is_fixed = "num_attention_heads" in config
    if config and "vocab_size" in config:
        raise ValueError(f"{config.get('model_type')} takes texts, not pictures; choose an image model")
    if config.get("model_type") == "image-codes":
        raise ValueError("image-codes makes codes of pictures, not labels; choose an image classification model")
    if is_fixed and size % config.get("patch_size", 1) == 0 and not pixels.has_weights(path):
        size = options.size  # without weights, positions are learned from scratch
    if is_fixed and size != options.size:
        raise ValueError(f"takes pictures of {size} pixels per side; set objective.size to {size}")
    if is_fixed and options.size % config.get("patch_size", 1):
        raise ValueError(f"objective.size: {options.size} is not a multiple of the patch size {config['patch_size']}")
    return pixels.PictureTokenizer()


def encode(inputs: Sequence[str], tokenizer: "PreTrainedTokenizerBase", options: Options) -> Columns:
    """Encode pictures as pixels."""
    return pixels.encode_pictures(inputs, options.size)


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head, in fp32; at random where the base has a configuration only."""
    import torch
    from transformers import AutoModelForImageClassification

    config = encoder_model.load_config(path, labels)
    if pixels.has_weights(path):
        model = AutoModelForImageClassification.from_pretrained(
            path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, trust_remote_code=False
        )
    else:
        config.image_size = options.size
        model = AutoModelForImageClassification.from_config(config, dtype=torch.float32, trust_remote_code=False)
    pixels.augment_inputs(model, options.flip, options.shift, options.zoom)
    return model


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(path, dtype=torch.float32, trust_remote_code=False)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target for serving."""
    row: Example = {"input_ids": encoded["input_ids"], "pixels": encoded["pixels"]}
    return row if target is None else {**row, "labels": label_ids[target]}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Stack pictures: `pixel_values` (rows, 3, size, size) from -1 to 1, `labels` (rows)."""
    import torch

    batch = {"pixel_values": pixels.stack_pictures([row["pixels"] for row in examples])}
    if "labels" in examples[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in examples])
    return batch


def compute_states(model: "PreTrainedModel", batch: Batch) -> "torch.Tensor":
    """Return the mean of the base model's states of each picture, (rows, size)."""
    hidden: torch.Tensor = model.base_model(pixel_values=batch["pixel_values"]).last_hidden_state
    return hidden.mean(1) if hidden.ndim == 3 else hidden.mean((2, 3))
