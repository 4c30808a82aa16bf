"""A picture in a cell: checked, and kept as text."""

import base64
import binascii
import io
from typing import Any

MOST = 64_000_000  # pixels; a small file can spell a picture that fills the memory


def image(value: Any) -> str | None:
    """The cell as the base64 text of a picture file: bytes, the `{"bytes": ...}` of `datasets`, or base64 itself.

    Raises:
        ValueError: it is none of them, or the picture is broken or too large.
    """
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, str):
        value = _decoded(value)
    if value is None:
        return None
    if not isinstance(value, bytes):
        raise ValueError(f"holds a {type(value).__name__} where a picture is needed")
    _check(value)
    return base64.b64encode(value).decode()


def _decoded(text: str) -> bytes | None:
    if not text.strip():
        return None
    try:
        return base64.b64decode(
            text.rpartition(",")[2], validate=True
        )  # what stands before a comma: data:image/png;...
    except binascii.Error:
        raise ValueError(f"{text[:40]!r} is no picture in base64; give the bytes of its file") from None


def _check(data: bytes) -> None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST:
                raise ValueError(f"the picture has {picture.width} x {picture.height} pixels; {MOST:,} are the most")
            picture.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture is broken: {error}") from None
