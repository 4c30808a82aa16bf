"""A picture in a cell: checked, and kept as text."""

import base64
import io
import re
from pathlib import Path
from typing import Any

NAME = re.compile(r"(?i)[^\0\r\n,]{1,1000}\.(png|jpe?g|gif|bmp|webp|tiff?)")
BEGINNINGS = ("data:image/", "iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")  # a data URI; PNG, JPEG, GIF, WebP in base64
MOST = 64_000_000  # pixels; a small file can spell a picture that fills the memory


def parse_image(value: Any, folder: Path | None = None) -> str | None:
    """The cell as the base64 text of a picture file: bytes, what `datasets` writes, base64, or a picture file's name.

    Args:
        folder: where files lie that cells name. Default: no cell may name one.
    Raises:
        ValueError: it is none of them, or the picture is broken or too large.
    """
    if isinstance(value, dict) and value.keys() & {"bytes", "path"}:
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and NAME.fullmatch(value.strip()):
        value = _read_picture(value.strip(), folder)
    elif isinstance(value, str):
        value = _decode_base64(value)
    if value is None:
        return None
    if not isinstance(value, bytes):
        raise ValueError(f"holds a {type(value).__name__} where a picture is needed")
    _check_picture(value)
    return base64.b64encode(value).decode()


def is_picture(value: Any) -> bool:
    """Whether a cell looks like a picture; it is not opened."""
    if isinstance(value, dict):
        return value.keys() == {"bytes", "path"}
    return isinstance(value, bytes) or (
        isinstance(value, str) and (value.startswith(BEGINNINGS) or bool(NAME.fullmatch(value.strip())))
    )


def _read_picture(name: str, folder: Path | None) -> bytes:
    """A file in the folder of the file that names it; what lies elsewhere is not for a row to open."""
    if folder is None:
        raise ValueError(f"{name!r} is a file's name; only cells of a file can name one: give its bytes in base64")
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} lies outside of the folder {folder.name} of the file that names it")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{name!r} cannot be read: {error.strerror}") from None


def _decode_base64(text: str) -> bytes | None:
    if not text.strip():
        return None
    try:
        return base64.b64decode(
            text.rpartition(",")[2], validate=True
        )  # what stands before a comma: data:image/png;...
    except ValueError:  # binascii.Error, or a letter beyond ASCII
        raise ValueError(f"{text[:40]!r} is no picture in base64; give the bytes of its file") from None


def _check_picture(data: bytes) -> None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST:
                raise ValueError(f"the picture has {picture.width} x {picture.height} pixels; {MOST:,} are the most")
            picture.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture is broken: {error}") from None
