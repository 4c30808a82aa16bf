"""Text to image: draws a picture for a caption, as codes that a decoder generates (Ramesh et al. 2021)."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .shared import picture_metrics, pixels
from .shared.picture_metrics import Prediction
from .shared.types import Batch, Columns, EncodedRow, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores

    from .shared.picture_network import CaptionedPictures

COLUMNS = {"caption": "string", "image": "image"}
INPUTS = ("caption",)
TARGET = "image"
LABELED = False
ENCODES_TARGET = True
ASSESSED = True
MODEL_OPTIONS = ("classifier",)
OUTPUTS = {"image": "string"}
METRICS = picture_metrics.METRICS
LOWER_IS_BETTER = ("code_perplexity", "frechet_distance")
ABSOLUTE_METRICS = ("code_perplexity", "frechet_distance", "inception_score")
BASE_MODEL = "champion:image-codes"  # the champion of a recipe for image-tokens, the first stage
WORD = re.compile(r"\w+|[^\w\s]")


class Options(BaseModel):
    """A picture for a caption. Columns: `caption`, `image`. The base model is the first stage, of `image-tokens`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["text-to-image"] = Field("text-to-image", description="Name of the objective.")
    classifier: str = Field(
        "", description="A model of `image-classification` that evaluates pictures: a folder, or `champion:RECIPE`."
    )
    size: int = Field(32, ge=8, le=256, multiple_of=4, description="Pixels per side, as in the first stage.")
    max_length: int = Field(12, ge=2, le=256, description="Maximum words of a caption; longer captions are cut.")
    words: int = Field(
        4096, ge=2, le=1_000_000, description="Number of ids that words are hashed to (Weinberger et al. 2009)."
    )
    layers: int = Field(6, ge=1, le=64, description="Layers of the decoder.")
    width: int = Field(192, ge=8, le=4096, description="Hidden size of the decoder.")
    heads: int = Field(6, ge=1, description="Attention heads of each layer.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of the decoder.")
    flip: bool = Field(False, description="Mirror half of the pictures in training.")
    temperature: float = Field(
        1.0, gt=0, description="Sampling temperature; below 1 likelier codes are drawn more often."
    )
    top_k: int = Field(64, ge=1, description="Number of the likeliest codes to sample from.")
    guidance: float = Field(2.0, ge=0, description="Scale of classifier-free guidance; 1: none.")
    seed: int = Field(17, ge=0, description="Seed of the sampling; the same caption always gives the same picture.")


class Example(TokenExample):
    """A caption, and the pixels of its picture where that is known.

    Args:
        drawn: settings of the sampling: temperature and guidance in thousandths.
        labels: the pixels.
    """

    drawn: Ids
    labels: NotRequired[Ids]


def make_tokenizer(path: str | Path, options: Options) -> pixels.PictureTokenizer:
    """Check the models of both stages; words are hashed and need no tokenizer.

    Raises:
        ValueError: the base model is not a first stage, or there is no usable classifier.
    """
    kind = pixels.read_config(path).get("model_type")
    if kind == "text-to-image":  # a tuned model
        return pixels.PictureTokenizer()
    if kind != "image-codes" or not pixels.has_weights(path):
        raise ValueError(
            f"{kind} is not a first stage; set it to `champion:RECIPE` of a recipe for image-tokens, or to its folder"
        )
    judge = pixels.read_config(options.classifier) if options.classifier else {}
    architectures = judge.get("architectures") or [""]
    labels = len(judge.get("id2label") or (0, 1))
    if not architectures[0].endswith("ForImageClassification") or not pixels.has_weights(options.classifier):
        raise ValueError("objective.classifier: set it to `champion:RECIPE` of a recipe for image-classification")
    if labels > picture_metrics.LABELS:
        raise ValueError(
            f"objective.classifier: it has {labels} labels, at most {picture_metrics.LABELS} are supported"
        )
    if options.width % options.heads:
        raise ValueError(f"objective.width: {options.width} is not a multiple of objective.heads ({options.heads})")
    return pixels.PictureTokenizer()


def find_problems(inputs: Sequence[str | None], targets: Sequence[str | None], options: Options) -> list[str | None]:
    """Find captions without a word."""
    return [
        "the caption has no word" if caption is not None and not WORD.search(caption) else None for caption in inputs
    ]


def encode(
    inputs: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    options: Options,
    targets: Sequence[str] | None = None,
) -> Columns:
    """Encode captions as word ids, padded with 0, also for each cell of the picture; and known pictures as pixels."""
    cells = (options.size // pixels.CELL) ** 2
    word_ids = [[_hash_word(word, options.words) for word in WORD.findall(caption.lower())] for caption in inputs]
    cut_ids = [ids[: options.max_length] for ids in word_ids]
    encoded: dict[str, Sequence[int | Ids]] = {
        "input_ids": [ids + [0] * (options.max_length - len(ids) + cells) for ids in cut_ids],
        "full_length": [max(len(ids), options.max_length) + cells for ids in word_ids],
        "drawn": [[round(1000 * options.temperature), options.top_k, round(1000 * options.guidance), options.seed]]
        * len(word_ids),
    }
    return (
        encoded if targets is None else {**encoded, "pixels": pixels.encode_pictures(targets, options.size)["pixels"]}
    )


def _hash_word(word: str, words: int) -> int:
    return 1 + int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest()) % (words - 1)


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a decoder at random on the first stage and the classifier, both frozen."""
    import torch
    from transformers import AutoModelForImageClassification

    from .shared.code_network import ImageCodes
    from .shared.picture_network import CaptionedPictures, PicturesConfig

    if pixels.read_config(path).get("model_type") == "text-to-image":
        model = load_model(path)
    else:
        first_stage = ImageCodes.from_pretrained(path, dtype=torch.float32)
        judge = AutoModelForImageClassification.from_pretrained(
            options.classifier, dtype=torch.float32, trust_remote_code=False
        )
        shape = {name: getattr(options, name) for name in ("words", "width", "layers", "heads", "dropout")}
        model = CaptionedPictures(
            PicturesConfig(
                **shape,
                caption=options.max_length,
                cells=(options.size // pixels.CELL) ** 2,
                codes=first_stage.config.to_diff_dict(),
                judge={"image_size": options.size, **judge.config.to_dict()},
            )
        )
        model.codes.load_state_dict(first_stage.state_dict())
        model.judge.load_state_dict(judge.state_dict())
    pixels.augment_inputs(model, options.flip, 0.0, 0.0)
    return model


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch

    from .shared.picture_network import CaptionedPictures

    return CaptionedPictures.from_pretrained(path, dtype=torch.float32)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target for serving."""
    row: Example = {"input_ids": encoded["input_ids"], "drawn": encoded["drawn"]}
    return row if target is None else {**row, "labels": encoded["pixels"]}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Stack `words` (rows, length); of known pictures `pixel_values` (rows, 3, size, size), `labels` (rows, cells).

    The labels only give the number of codes; the model finds the codes themselves.
    """
    import torch

    batch = {"words": torch.from_numpy(np.array([row["input_ids"] for row in examples], dtype=np.int64))}
    if "labels" in examples[0]:
        batch["pixel_values"] = pixels.stack_pictures([row["labels"] for row in examples])
        cells = (batch["pixel_values"].shape[-1] // pixels.CELL) ** 2
        batch["labels"] = torch.zeros(len(examples), cells, dtype=torch.int64)
    return batch


def compute_loss(
    logits: tuple["torch.Tensor", "torch.Tensor"],
    labels: "torch.Tensor",
    weights: "torch.Tensor | None" = None,
    smoothing: float = 0.0,
) -> "torch.Tensor":
    """Compute cross-entropy, summed over the codes."""
    import torch

    code_logits, codes = logits
    return torch.nn.functional.cross_entropy(
        code_logits.float().flatten(0, 1), codes.flatten(), reduction="sum", label_smoothing=smoothing
    )


def predict_batch(
    model: "CaptionedPictures",
    batch: Batch,
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> tuple[list[Prediction], float]:
    """Draw a picture for each caption.

    Where the true pictures are known, add the likelihood of their codes and the classifier's logits of both pictures.
    """
    import torch

    noise = torch.from_numpy(np.stack([_draw_noise(item, model) for item in examples])).to(batch["words"].device)
    temperature, top_k, guidance, _ = (float(value) for value in examples[0]["drawn"])
    words = batch["words"][:, : model.config.caption]
    codes = model.sample_codes(words, noise, temperature / 1000, int(top_k), guidance / 1000)
    pictures = model.codes.decode_codes(codes).float().clamp(-1, 1)
    predictions: list[Prediction] = [{"image": image} for image in pixels.encode_pngs(pictures)]
    if "pixel_values" not in batch:
        return predictions, 0.0
    code_logits, true_codes = model(words=batch["words"], pixel_values=batch["pixel_values"]).logits
    row_nats = torch.nn.functional.cross_entropy(
        code_logits.float().transpose(1, 2), true_codes, reduction="none"
    ).mean(1)
    judged = model.classify(pictures).tolist(), model.classify(batch["pixel_values"]).tolist()
    for row, (nats, drawn, real) in enumerate(zip(row_nats.tolist(), *judged, strict=True)):
        predictions[row] |= {"nats": nats, "judged": drawn, "real": real}
    return predictions, float(row_nats.sum()) * true_codes.shape[1]


def _draw_noise(item: Example, model: "CaptionedPictures") -> NDArray[np.float32]:
    """Gumbel noise of a caption, independent of the rest of its batch."""
    words = [int(word) for word in item["input_ids"][: model.config.caption]]
    generator = np.random.default_rng([int(item["drawn"][3]), *words])
    return generator.gumbel(size=(model.config.cells, model.codes.config.codes)).astype(np.float32)


def decode(
    logits: tuple["torch.Tensor", "torch.Tensor"],
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> list[Prediction]:
    """Not used: see `predict_batch`.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("text-to-image predicts with `predict_batch`")


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the mean of all pictures for every row, with 512 equally likely codes."""
    mean = pixels.encode_png(np.mean([pixels.decode_picture(target, 32) for target in targets], axis=0).round())
    return [{"image": mean, "nats": math.log(512), "judged": [0.0], "real": [0.0]} for _ in targets]


compute_statistics = picture_metrics.compute_statistics
compute_metrics = picture_metrics.compute_metrics


def compute_states(model: "CaptionedPictures", batch: Batch) -> "torch.Tensor":
    """Return the decoder's last state of each caption, (rows, width)."""
    states: torch.Tensor = model.decoder(input_ids=batch["words"][:, : model.config.caption]).last_hidden_state
    return states[:, -1]


def score_predictions(targets: Sequence[str], predictions: Sequence[Prediction]) -> "RowScores":
    """Score each row by the likelihood of the true picture's codes."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.use_losses([prediction["nats"] for prediction in predictions])
