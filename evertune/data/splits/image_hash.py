"""Turn pictures into words that stay the same when a picture is re-encoded or resized."""

import base64
import io
from typing import TYPE_CHECKING

from evertune.data.columns.strings import slice_texts
from evertune.runtime.threads import map_in_threads

if TYPE_CHECKING:
    import pyarrow as pa

SIDE = 8
FLAT = 16  # grey levels, of 256, that count as no difference: an encoder's noise is less
TINT = 64  # levels of a colour that count as the same


def hash_pictures(pictures: "pa.Array | pa.ChunkedArray") -> "pa.Array":
    """Return each picture as 64 words for lighter, darker or flat steps from cell to cell, and three for its colour.

    This is the difference hash (Krawetz 2013, "Kind of Like That") with a third value for flat parts. Pictures are
    then compared like texts: each word that differs changes three of their 65 shingles.

    Args:
        pictures: files in base64.
    """
    import pyarrow as pa

    chunks = pictures.chunks if isinstance(pictures, pa.ChunkedArray) else [pictures]
    parts = [part for chunk in chunks for part in slice_texts(chunk)]
    return pa.concat_arrays([pa.array([], pa.string()), *map_in_threads(_hash_chunk, parts)])


def _hash_chunk(pictures: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return pa.array([_hash_picture(picture) if picture else "" for picture in pictures.to_pylist()], pa.string())


def _hash_picture(text: str) -> str:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as image_file:
        image = image_file.convert("RGBA")
    rgb_image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    grey = np.asarray(rgb_image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.HAMMING), dtype=np.int16)
    steps = np.diff(grey, axis=1).ravel()
    directions = np.where(steps > FLAT, "lighter", np.where(steps < -FLAT, "darker", "flat"))
    tint = np.asarray(rgb_image.resize((1, 1), Image.Resampling.BOX)).ravel() // TINT
    words = [f"{direction}{index}" for index, direction in enumerate(directions)]
    return " ".join([*words, *(f"{name}{level}" for name, level in zip(("red", "green", "blue"), tint, strict=True))])
