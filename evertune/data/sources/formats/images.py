"""Pictures in cells: checked, and kept as base64 text."""

import base64
import io
import re
from pathlib import Path

NAME = re.compile(r"(?i)[^\0\r\n,]{1,1000}\.(png|jpe?g|gif|bmp|webp|tiff?)")
BEGINNINGS = ("data:image/", "iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")  # a data URI; PNG, JPEG, GIF, WebP in base64
MAX_PIXELS = 64_000_000  # a small file can decode to a picture that fills the memory


def parse_image(value: object, folder: Path | None = None) -> str | None:
    """Return the cell as the base64 text of a picture file.

    The cell is the file's bytes, base64 or name, or a mapping of bytes and path as `datasets` writes it.

    Args:
        folder: folder of the files that cells may name. Default: cells may not name files.
    Raises:
        ValueError: the cell is none of these, or the picture is broken or too large.
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
        raise ValueError(f"expected a picture, found {type(value).__name__}")
    _check_picture(value)
    return base64.b64encode(value).decode()


def is_picture(value: object) -> bool:
    """Whether a cell looks like a picture, judged without opening it."""
    if isinstance(value, dict):
        return value.keys() == {"bytes", "path"}
    if isinstance(value, str):
        return value.startswith(BEGINNINGS) or NAME.fullmatch(value.strip()) is not None
    return isinstance(value, bytes)


def _read_picture(name: str, folder: Path | None) -> bytes:
    """Return a picture file's bytes; a row may only open files in the folder of the data file that contains it."""
    if folder is None:
        raise ValueError(f"{name!r} is a file name, which only rows of a file may have; give the bytes in base64")
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} lies outside {folder.name}, the folder of the data file")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{name!r} cannot be read: {error.strerror}") from None


def _decode_base64(text: str) -> bytes | None:
    if not text.strip():
        return None
    encoded = text.rpartition(",")[2]  # a data URI has `data:image/png;base64` before a comma
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:  # binascii.Error, or a character beyond ASCII
        raise ValueError(f"{text[:40]!r} is not a picture in base64; give the bytes of the picture file") from None


def _check_picture(data: bytes) -> None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(
                    f"the picture has {picture.width} x {picture.height} pixels; the maximum is {MAX_PIXELS:,}"
                )
            picture.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture is broken: {error}") from None
