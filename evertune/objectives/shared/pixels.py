"""Pictures as numbers, for the objectives that read or draw them; a copy travels in their bundles."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .types import Columns, Ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Bytes = NDArray[np.uint8]

CELL = 4  # a picture counts as one token for each cell of this many pixels per side
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class Config(TypedDict, total=False):
    """What is read of the `config.json` of a model for pictures."""

    model_type: str
    architectures: list[str] | None
    vocab_size: int
    image_size: int
    patch_size: int
    num_attention_heads: int
    id2label: dict[str, str] | None


class PictureTokenizer:
    """Takes the place of a tokenizer, which pictures do not need."""

    pad_token_id = 0
    mask_token_id = None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write nothing: the objective's options hold all settings."""


def has_weights(path: str | Path) -> bool:
    """Whether a base model has weights; a folder with a configuration alone starts at random."""
    return not Path(path).is_dir() or any(any(Path(path).glob(pattern)) for pattern in WEIGHTS)


def read_config(path: str | Path) -> Config:
    """Read the `config.json` of a folder; for a hub id return an empty mapping."""
    file = Path(path) / "config.json"
    return cast(Config, json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def encode_pictures(inputs: Sequence[str], size: int) -> Columns:
    """Encode each picture as `size` x `size` pixels, four bytes to a number, with an id for each cell."""
    cells = list(range(max(1, size // CELL) ** 2))
    return {
        "input_ids": [cells] * len(inputs),
        "pixels": [_pack_pixels(decode_picture(text, size)) for text in inputs],
        "full_length": [len(cells)] * len(inputs),
    }


def decode_picture(text: str, size: int) -> Bytes:
    """Decode a picture in base64 to (size, size, 3) bytes; transparent pixels become white."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        whole = opened.convert("RGBA")
    white = Image.new("RGBA", whole.size, "white")
    flat = Image.alpha_composite(white, whole).convert("RGB")
    return np.asarray(flat if flat.size == (size, size) else flat.resize((size, size), Image.Resampling.BICUBIC))


def encode_png(pixels: ArrayLike) -> str:
    """Encode (height, width, 3) bytes as PNG in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def encode_pngs(values: "torch.Tensor") -> list[str]:
    """Encode pictures (rows, 3, height, width) with values from -1 to 1 as PNG in base64."""
    arrays = ((values.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [encode_png(array) for array in arrays]


def decode_png(text: str) -> Bytes:
    """Decode the output of `encode_png` to (height, width, 3) bytes."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        return np.asarray(opened.convert("RGB"))


def _pack_pixels(pixels: Bytes) -> NDArray[np.int32]:
    flat = np.ascontiguousarray(pixels).reshape(-1)
    return np.concatenate([flat, np.zeros(-len(flat) % 4, dtype=np.uint8)]).view(np.int32)


def unpack_pixels(numbers: Ids, size: int) -> Bytes:
    """Unpack pixels of `encode_pictures` to (size, size, 3) bytes."""
    return np.asarray(numbers, dtype=np.int32).view(np.uint8)[: size * size * 3].reshape(size, size, 3)


def stack_pictures(pixels: Sequence[Ids]) -> "torch.Tensor":
    """Stack packed pictures of one size, (rows, 3, size, size) with values from -1 to 1."""
    import torch

    size = int((len(pixels[0]) * 4 // 3) ** 0.5)
    stacked = np.stack([unpack_pixels(numbers, size) for numbers in pixels])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def augment_inputs(model: "PreTrainedModel", flip: bool, shift: float, zoom: float) -> None:
    """Make a model move and zoom each picture a little in training.

    The changes are drawn in the forward pass from torch's generator, whose state a checkpoint keeps, so a resumed
    training sees the same pictures.

    Args:
        model: takes `pixel_values`.
        flip: whether to mirror half of the pictures.
        shift: largest shift, as a share of the side.
        zoom: largest change of size, as a share.
    """

    def move_pictures(
        module: "torch.nn.Module", args: tuple["torch.Tensor", ...], kwargs: dict[str, "torch.Tensor"]
    ) -> tuple[tuple["torch.Tensor", ...], dict[str, "torch.Tensor"]]:
        if module.training:
            kwargs["pixel_values"] = _move_randomly(kwargs["pixel_values"], flip, shift, zoom)
        return args, kwargs

    if flip or shift or zoom:
        model.register_forward_pre_hook(move_pictures, with_kwargs=True)


def _move_randomly(pictures: "torch.Tensor", flip: bool, shift: float, zoom: float) -> "torch.Tensor":
    import torch

    rows = len(pictures)
    device = pictures.device
    draws = torch.rand(rows, 4).to(device) * 2 - 1  # from the CPU's generator, wherever the model is
    scale = 1 + zoom * draws[:, 0]
    scale_x = torch.where(draws[:, 1] < 0, -scale, scale) if flip else scale
    affine = torch.zeros(rows, 2, 3, device=device)
    affine[:, 0, 0] = scale_x
    affine[:, 1, 1] = scale
    affine[:, :, 2] = 2 * shift * draws[:, 2:]
    grid = torch.nn.functional.affine_grid(affine, list(pictures.shape), align_corners=False)
    return torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
