"""The report page stays small with thousands of labels, and with photographs."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from evertune.data.thumbnails import SHOWN, digest_picture, make_thumbnail
from tests.helpers.report import DETAILS, Read, write_report_without_pictures


def test_thousands_of_labels_and_photographs_stay_below_two_megabytes(tmp_path: Path) -> None:
    names = [f"a long name of label {number}" for number in range(4000)]
    per_class = {
        name: {**next(iter(DETAILS["challenger"]["per_class"].values())), "f1": index / 4000}
        for index, name in enumerate(names)
    }
    entry = {"rows": 20, "challenger": 0.7, "champion": 0.8}
    tile = {"caption": "noise", **dict.fromkeys(("true", "champion", "challenger"), make_thumbnail(_noise()))}
    details = {
        **DETAILS,
        "slices": {f"label={name}": entry for name in names},
        "gallery": [tile] * SHOWN,
        **{model: {**DETAILS[model], "per_class": per_class} for model in ("challenger", "champion")},
    }
    path = write_report_without_pictures(tmp_path, details=details)
    read = Read(path)
    assert "3,800 more slices are in details.json" in read.text and "3,800 more classes" in read.text
    assert "a long name of label 199 " in read.text and "a long name of label 200 " not in read.text
    assert path.stat().st_size < 1_500_000


def test_a_thumbnail_is_known_by_its_pixels_also_where_it_has_fewer_colours() -> None:
    whole = _noise()
    small = make_thumbnail(whole)
    assert digest_picture(whole) == digest_picture(small) == digest_picture(make_thumbnail(small.rpartition(",")[2]))


def _noise() -> str:
    """A picture that no compression makes smaller."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
