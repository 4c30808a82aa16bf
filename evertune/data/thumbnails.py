"""Pictures for people: what a terminal tells of one, and the small copy of it that a page shows."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIDE = 64  # pixels; a larger picture is shown smaller
SHOWN = 40  # rows of a gallery
BYTES, COLOURS = 4096, 128  # of a thumbnail: a page of photographs stays below 2 MB
URI = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


def told(text: str) -> str:
    """A picture in words: `PNG, 32 x 32 pixels`.

    Args:
        text: the base64 of its file.
    """
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        return f"{picture.format}, {picture.width} x {picture.height} pixels"


def thumbnail(text: str) -> str:
    """The picture as PNG in a data URI, at most `SIDE` pixels a side; one that takes many bytes in fewer colours."""
    return f"data:image/png;base64,{base64.b64encode(_png(_small(base64.b64decode(text)))).decode()}"


def digest(text: str) -> str:
    """By what a picture is known, be it the base64 of its file or a thumbnail in a data URI: its thumbnail's pixels.

    What cannot be read is known by its letters.
    """
    from PIL import Image

    letters = "".join(text.rpartition(";base64,")[2].split())
    try:
        small = _small(base64.b64decode(letters))
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
        return hashlib.sha256(letters.encode()).hexdigest()
    return hashlib.sha256(f"{small.size}".encode() + small.convert("RGBA").tobytes()).hexdigest()


def _small(content: bytes) -> "Picture":
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGBA")
    small.thumbnail((SIDE, SIDE))
    if len(_png(small)) > BYTES and small.getcolors(COLOURS) is None:  # a thumbnail's own thumbnail has its pixels
        small = small.quantize(COLOURS, Image.Quantize.FASTOCTREE)
    return small


def _png(picture: "Picture") -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def gallery(
    objective: Any,
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
    named, count = objective.TARGET not in objective.INPUTS, min(SHOWN, len(targets))
    places = [place * len(targets) // count for place in range(count)]
    return [
        {"caption": str(inputs[place]) if named else "", "true": thumbnail(targets[place]),
         **{model: thumbnail(found[place]["image"]) for model, found in predictions.items()}}
        for place in places
    ]  # fmt: skip
