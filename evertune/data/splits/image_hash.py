"""Pictures as comparisons see them: words that stay the same when a picture is encoded or resized anew."""

import base64
import io
from typing import TYPE_CHECKING, Any

from evertune.data.columns.strings import slices
from evertune.runtime.threads import mapped

if TYPE_CHECKING:
    import pyarrow as pa

SIDE = 8
FLAT = 16  # grey levels, of 256, that count as no difference: less is the noise of an encoder
TINT = 64  # levels of a colour that count as the same


def worded(pictures: Any) -> "pa.Array":
    """Each picture as 64 words, for whether it grows lighter or darker from cell to cell, and three for its colour.

    This is the difference hash (Krawetz 2013, "Kind of Like That") with a third value for flat parts. Pictures are
    compared as texts are: each word that differs takes three of their 65 shingles.

    Args:
        pictures: files in base64.
    """
    import pyarrow as pa

    chunks = pictures.chunks if isinstance(pictures, pa.ChunkedArray) else [pictures]
    parts = [part for chunk in chunks for part in slices(chunk)]
    return pa.concat_arrays([pa.array([], pa.string()), *mapped(_worded, parts)])


def _worded(pictures: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return pa.array([_words(one) if one else "" for one in pictures.to_pylist()], pa.string())


def _words(text: str) -> str:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        whole = opened.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    grey = np.asarray(flat.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.HAMMING), dtype=np.int16)
    steps = np.diff(grey, axis=1).ravel()
    told = np.where(steps > FLAT, "lighter", np.where(steps < -FLAT, "darker", "flat"))
    tint = np.asarray(flat.resize((1, 1), Image.Resampling.BOX)).ravel() // TINT
    words = [f"{one}{place}" for place, one in enumerate(told)]
    return " ".join([*words, *(f"{name}{level}" for name, level in zip(("red", "green", "blue"), tint, strict=True))])
