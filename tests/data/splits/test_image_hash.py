"""Pictures that show the same stand in one component, others do not, however their files are encoded."""

import base64
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from evertune.data.splits.image_hash import hash_pictures
from tests.helpers.data import current, make_home, make_recipe, run, write_jsonl
from tests.helpers.picture import write_tiny_vision


def scene(seed: int) -> Image.Image:
    """A picture of its own: large blocks of colours, smoothed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return Image.fromarray(blocks).resize((40, 40), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def variants(image: Image.Image) -> list[str]:
    """Other files that show the same."""
    brighter = Image.fromarray((np.asarray(image) * 0.97 + 5).astype(np.uint8))
    clear = image.convert("RGBA")
    return [
        encoded(image, "JPEG", quality=85),
        encoded(image.resize((80, 80), Image.Resampling.BICUBIC), "JPEG"),
        encoded(image.resize((32, 32), Image.Resampling.BICUBIC)),
        encoded(brighter),
        encoded(clear),
    ]


def test_what_a_picture_shows_stands_in_one_split(tmp_path: Path) -> None:
    scenes = [scene(seed) for seed in range(40)]
    files = [[encoded(image), *variants(image)] for image in scenes]
    batches = [
        [same[0] for same in files],
        [file for same in files for file in same[1:]],
    ]  # the others come later
    options = {"type": "image-classification", "size": 8}
    data = {"sources": [{"path": "*.jsonl"}], "split": {"validation": 0.2, "test": 0.3}}
    recipe = make_recipe(tmp_path, objective=options, base_model=str(write_tiny_vision(tmp_path)), data=data)
    for number, batch in enumerate(batches):
        rows = [{"image": file, "label": "ab"[index % 2]} for index, file in enumerate(batch)]
        write_jsonl(tmp_path / f"{number}.jsonl", rows)
        run(recipe, make_home(tmp_path))
    rows = current(make_home(tmp_path), "image", "component", "split")
    component = {row["image"]: row["component"] for row in rows}
    split = {row["image"]: row["split"] for row in rows}
    assert len({component[file] for file in batches[0]}) == len(scenes)
    assert {split[file] for file in batches[0]} == {"train", "validation", "test"}
    torn = [number for number, same in enumerate(files) if len({component[file] for file in same}) > 1]
    assert torn == []
    assert all(len({split[file] for file in same}) == 1 for same in files)


def test_the_words_of_a_picture_tell_colours_and_ignore_what_is_transparent() -> None:
    red, blue = (encoded(Image.new("RGB", (9, 9), name)) for name in ("red", "blue"))
    white = encoded(Image.new("RGB", (9, 9), "white"))
    clear = encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 0)))
    hashes = hash_pictures(pa.chunked_array([[red, blue, white, clear, None]])).to_pylist()
    assert len({*hashes}) == 4 and hashes[2] == hashes[3] and hashes[4] == ""
    assert [len(words.split()) for words in hashes[:4]] == [67] * 4
