"""Pictures for people: what a terminal tells of one, and the small copy of it that a page shows."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evertune.objectives import Objective

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIDE = 64  # pixels; a larger picture is shown smaller
SHOWN = 40  # rows of a gallery
BYTES = 4096  # of a thumbnail: a page of photographs stays below 2 MB
COLOURS = 128
URI = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


def describe_picture(text: str) -> str:
    """A picture in words: `PNG, 32 x 32 pixels`.

    Args:
        text: the base64 of its file.
    """
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        return f"{picture.format}, {picture.width} x {picture.height} pixels"


def make_thumbnail(text: str) -> str:
    """The picture as PNG in a data URI, at most `SIDE` pixels a side; one that takes many bytes in fewer colours."""
    return f"data:image/png;base64,{base64.b64encode(_encode_png(_shrink_picture(base64.b64decode(text)))).decode()}"


def digest_picture(text: str) -> str:
    """By what a picture is known, be it the base64 of its file or a thumbnail in a data URI: its thumbnail's pixels.

    What cannot be read is known by its letters.
    """
    from PIL import Image

    letters = "".join(text.rpartition(";base64,")[2].split())
    try:
        small = _shrink_picture(base64.b64decode(letters))
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
        return hashlib.sha256(letters.encode()).hexdigest()
    return hashlib.sha256(f"{small.size}".encode() + small.convert("RGBA").tobytes()).hexdigest()


def _shrink_picture(content: bytes) -> "Picture":
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGBA")
    small.thumbnail((SIDE, SIDE))
    if (
        len(_encode_png(small)) > BYTES and small.getcolors(COLOURS) is None
    ):  # a thumbnail's own thumbnail has its pixels
        small = small.quantize(COLOURS, Image.Quantize.FASTOCTREE)
    return small


def _encode_png(picture: "Picture") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def build_gallery(
    objective: Objective,
    inputs: Sequence[Any],
    targets: Sequence[Any],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, str]]:
    """Some rows of an objective that draws pictures, evenly spaced: the true one and what each model drew.

    Args:
        predictions: of each model.
    """
    if objective.COLUMNS[objective.TARGET] != "image":
        return []
    has_caption = objective.TARGET not in objective.INPUTS
    count = min(SHOWN, len(targets))
    indices = [index * len(targets) // count for index in range(count)]
    return [
        {
            "caption": str(inputs[index]) if has_caption else "",
            "true": make_thumbnail(targets[index]),
            **{model: make_thumbnail(outputs[index]["image"]) for model, outputs in predictions.items()},
        }
        for index in indices
    ]
