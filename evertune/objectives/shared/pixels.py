"""Pictures as numbers: what the objectives that take them share; a copy travels in their bundles."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CELL = 4  # a picture counts as one token for each cell of so many pixels a side
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class PictureTokenizer:
    """What stands where objectives of texts have a tokenizer: pictures need none."""

    pad_token_id = 0
    mask_token_id = None

    def save_pretrained(self, folder: str | Path) -> None:
        """Nothing: the objective's options say all."""


def has_weights(path: str | Path) -> bool:
    """Whether a base model has learned something; a folder with a configuration alone starts at random."""
    return not Path(path).is_dir() or any(any(Path(path).glob(pattern)) for pattern in WEIGHTS)


def read_config(path: str | Path) -> dict[str, Any]:
    """The `config.json` of a folder; of a hub id nothing."""
    file = Path(path) / "config.json"
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return config


def encode_pictures(inputs: Sequence[str], size: int) -> dict[str, list[Any]]:
    """Each picture as `size` x `size` pixels, four bytes of it in a number, and as many ids as it has cells."""
    cells = list(range(max(1, size // CELL) ** 2))
    return {
        "input_ids": [cells] * len(inputs),
        "pixels": [_pack_pixels(decode_picture(text, size)) for text in inputs],
        "full_length": [len(cells)] * len(inputs),
    }


def decode_picture(text: str, size: int) -> Any:
    """(size, size, 3) bytes of a picture in base64; what is transparent is white."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        whole = opened.convert("RGBA")
    white = Image.new("RGBA", whole.size, "white")
    flat = Image.alpha_composite(white, whole).convert("RGB")
    return np.asarray(flat if flat.size == (size, size) else flat.resize((size, size), Image.Resampling.BICUBIC))


def encode_png(pixels: Any) -> str:
    """A picture of (height, width, 3) bytes as PNG in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def encode_pngs(values: Any) -> list[str]:
    """Pictures of (rows, 3, height, width) from -1 to 1 as PNG in base64."""
    arrays = ((values.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [encode_png(array) for array in arrays]


def decode_png(text: str) -> Any:
    """(height, width, 3) bytes of what `encode_png` gave."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        return np.asarray(opened.convert("RGB"))


def _pack_pixels(pixels: Any) -> Any:
    flat = np.ascontiguousarray(pixels).reshape(-1)
    return np.concatenate([flat, np.zeros(-len(flat) % 4, dtype=np.uint8)]).view(np.int32)


def unpack_pixels(numbers: Any, size: int) -> Any:
    """(size, size, 3) bytes of what `encode_pictures` gave."""
    return np.asarray(numbers, dtype=np.int32).view(np.uint8)[: size * size * 3].reshape(size, size, 3)


def stack_pictures(pixels: Sequence[Any]) -> Any:
    """(rows, 3, size, size) from -1 to 1 of packed pictures of one size."""
    import torch

    size = int((len(pixels[0]) * 4 // 3) ** 0.5)
    stacked = np.stack([unpack_pixels(numbers, size) for numbers in pixels])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def augment_inputs(model: Any, flip: bool, shift: float, zoom: float) -> None:
    """Let a model see each picture a little elsewhere and larger or smaller while it trains.

    Drawn in its forward pass from torch's generator, whose state a checkpoint keeps: a resumed training sees the same.

    Args:
        flip: whether half of them are mirrored; shift, zoom: largest share of the picture's side, of its size.
    """

    def move_pictures(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if module.training:
            kwargs["pixel_values"] = _move_randomly(kwargs["pixel_values"], flip, shift, zoom)
        return args, kwargs

    if flip or shift or zoom:
        model.register_forward_pre_hook(move_pictures, with_kwargs=True)


def _move_randomly(pictures: Any, flip: bool, shift: float, zoom: float) -> Any:
    import torch

    rows = len(pictures)
    device = pictures.device
    draws = torch.rand(rows, 4).to(device) * 2 - 1  # on the CPU's generator wherever the model is
    scale = 1 + zoom * draws[:, 0]
    scale_x = torch.where(draws[:, 1] < 0, -scale, scale) if flip else scale
    affine = torch.zeros(rows, 2, 3, device=device)
    affine[:, 0, 0] = scale_x
    affine[:, 1, 1] = scale
    affine[:, :, 2] = 2 * shift * draws[:, 2:]
    grid = torch.nn.functional.affine_grid(affine, list(pictures.shape), align_corners=False)
    return torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
