"""Pictures for people: a description for the terminal, and a thumbnail for reports."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from evertune.objectives import Cell, Input, Objective, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIDE = 64  # pixels; larger pictures are scaled down
SHOWN = 40  # rows of a gallery
BYTES = 4096  # a larger thumbnail is reduced to fewer colours, so that a page of photographs stays below 2 MB
COLOURS = 128
URI = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


def describe_picture(text: str) -> str:
    """Return a picture's format and size, such as `PNG, 32 x 32 pixels`.

    Args:
        text: the base64 of its file.
    """
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        return f"{picture.format}, {picture.width} x {picture.height} pixels"


def make_thumbnail(text: str) -> str:
    """Return the picture as a small PNG in a data URI, at most `SIDE` pixels a side.

    Args:
        text: the base64 of the picture's file.
    """
    small = _shrink_picture(base64.b64decode(text))
    return f"data:image/png;base64,{base64.b64encode(_encode_png(small)).decode()}"


def digest_picture(text: str) -> str:
    """Return a digest of the pixels of a picture's thumbnail, the same for a picture and for its thumbnail.

    Args:
        text: the base64 of the picture's file, or a data URI. The digest of one that cannot be read is that of its
            letters.
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
    # A picture with few colours is left alone, so that the thumbnail of a thumbnail has the same pixels.
    has_many_colours = small.getcolors(COLOURS) is None
    if has_many_colours and len(_encode_png(small)) > BYTES:
        small = small.quantize(COLOURS, Image.Quantize.FASTOCTREE)
    return small


def _encode_png(picture: "Picture") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def build_gallery(
    objective: Objective,
    inputs: Sequence[Input],
    targets: Sequence[Cell],
    predictions: Mapping[str, Sequence[Prediction]],
) -> list[dict[str, str]]:
    """Return evenly spaced rows of an objective that draws pictures: the true picture and what each model drew.

    Args:
        objective: module of the objective.
        predictions: model -> its outputs, one per row.
    Returns:
        Rows with `caption`, `true` and one data URI per model; none if the objective draws no pictures.
    """
    if objective.COLUMNS[objective.TARGET] != "image":
        return []
    has_caption = objective.TARGET not in objective.INPUTS
    count = min(SHOWN, len(targets))
    indices = [index * len(targets) // count for index in range(count)]
    return [
        {
            "caption": str(inputs[index]) if has_caption else "",
            "true": make_thumbnail(cast(str, targets[index])),
            **{model: make_thumbnail(cast(str, outputs[index]["image"])) for model, outputs in predictions.items()},
        }
        for index in indices
    ]
