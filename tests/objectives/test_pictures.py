"""Pictures on their way from a cell to a model: what is read, refused, seen, drawn and judged."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evertune.config import Recipe, load_recipe
from evertune.data.sources import read as sources
from evertune.data.sources.formats.images import parse_image
from evertune.data.thumbnails import describe_picture, make_thumbnail
from evertune.errors import ConfigError, DataError
from evertune.models import base as base_models
from evertune.objectives import image_tokens, text_to_image
from evertune.objectives.shared import picture_metrics, pixels
from evertune.profiling import preview
from evertune.profiling.profile import inspect_data, render_recipe, try_contract
from evertune.runtime.files import write_json
from evertune.tokenization import tokenize as tokenization
from tests.helpers.model import recipe
from tests.helpers.picture import picture, write_tiny_stages, write_tiny_vision
from tests.helpers.report import write_report_without_pictures


def read(folder: Path, rows: list[dict[str, Any]]) -> Any:
    """The rows of a file in the folder, as a recipe of image-classification reads them."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = write_tiny_vision(folder) if not (folder / "vision").exists() else folder / "vision"
    one = recipe(
        base,
        {"type": "image-classification", "size": 8},
        folder=str(folder),
        data={"sources": [{"path": "rows.jsonl"}]},
    )
    return next(iter(sources.read_sources(one, {}))).table


def test_a_cell_is_bytes_a_struct_base64_a_data_uri_or_a_file_beside_the_rows(tmp_path: Path) -> None:
    text = picture(9, 4)
    data = base64.b64decode(text)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a picture.PNG").write_bytes(data)
    assert parse_image(data) == parse_image({"bytes": data, "path": None}) == parse_image(text) == text
    assert parse_image(f"data:image/png;base64,{text}") == text
    found = read(tmp_path, [{"image": "some/a picture.PNG", "label": "a"}, {"image": text, "label": "b"}])
    assert found["image"].to_pylist() == [text, text] and found["problem"].null_count == 2


def test_a_broken_or_a_foreign_picture_names_its_row_and_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_bytes(base64.b64decode(picture(9, 4)))
    (tmp_path / "data" / "text.png").write_text("no picture")
    cells = ["../secret.png", "gone.png", "text.png", picture(9, 4)[:60], "no base64!"]
    found = read(tmp_path / "data", [{"image": cell, "label": "a"} for cell in cells])
    said = found["problem"].to_pylist()
    wanted = (
        "lies outside",
        "'gone.png' cannot be read",
        "the picture is broken",
        "broken",
        "is not a picture in base64",
    )
    assert all(
        f"row {row}, column image" in one and word in one
        for row, (one, word) in enumerate(zip(said, wanted, strict=True))
    ), said


def test_pictures_of_any_size_and_mode_are_seen_at_one_size() -> None:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("LA", (7, 3), (0, 0)).save(file, "PNG")
    clear = base64.b64encode(file.getvalue()).decode()
    encoded = pixels.encode_pictures([picture(50, 8), picture(50, 8, format="GIF"), clear], 8)
    assert {len(one) for one in encoded["pixels"]} == {8 * 8 * 3 // 4}
    assert (pixels.unpack_pixels(encoded["pixels"][0], 8) == pixels.decode_png(picture(50, 8))).all()
    assert (pixels.unpack_pixels(encoded["pixels"][2], 8) == 255).all()  # what is transparent is white
    assert pixels.stack_pictures(encoded["pixels"]).shape == (3, 3, 8, 8)


def test_augmentation_comes_from_torchs_generator_and_only_while_training() -> None:
    import torch

    model = torch.nn.Identity()
    model.forward = lambda pixel_values: pixel_values  # type: ignore[method-assign]
    pixels.augment_inputs(model, True, 0.2, 0.2)
    given = torch.rand(6, 3, 8, 8)
    torch.manual_seed(3)
    first = model(pixel_values=given)
    torch.manual_seed(3)
    assert torch.equal(first, model(pixel_values=given)) and not torch.equal(first, given)
    assert torch.equal(model.eval()(pixel_values=given), given)


def test_check_tells_pictures_in_words_and_a_base_model_that_does_not_fit(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{"image": picture(number % 2 * 100, 8, number), "label": "ab"[number % 2]} for number in range(40)]
    read(tmp_path, rows)
    data = {"sources": [{"path": "rows.jsonl"}]}
    fits = recipe(tmp_path / "vision", {"type": "image-classification", "size": 8}, folder=str(tmp_path), data=data)
    assert preview.preview_recipe(fits, 100).examples[0] == {"input": "PNG, 8 x 8 pixels", "target": "a", "tokens": "4"}
    for base, options, said in (
        (tiny_model, {"type": "image-classification"}, "bert takes texts, not pictures"),
        (tmp_path / "vision", {"type": "image-tokens"}, "resnet does not make codes of pictures"),
        (tmp_path / "vision", {"type": "text-to-image"}, "resnet is not a first stage"),
    ):
        with pytest.raises(ConfigError, match=said):
            tokenization.load_tokenizer(recipe(base, options))


def test_a_first_stage_is_a_champion_whose_change_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path))

    def asked(classifier: str = "classifier") -> Recipe:
        options = {"type": "text-to-image", "size": 8, "classifier": str(classifier), "width": 16, "heads": 2}
        return recipe(tmp_path, options).model_copy(update={"base_model": "champion:codes", "folder": tmp_path})

    with pytest.raises(ConfigError, match="champion:codes: no champion of 'codes'"):
        base_models.locate_base(asked())
    stage = write_tiny_stages(tmp_path)
    home = tmp_path / "models" / "codes"
    model = home / "runs" / "abc" / "bundle" / "model"
    model.parent.mkdir(parents=True)
    stage.rename(model)
    write_json(home / "runs" / "abc" / "run.json", {"run_id": "r1"})
    moves = [{"event": "decision", "version": 1, "run_id": "r1"}, {"event": "moved", "from": None, "to": 1}]
    (home / "ledger.jsonl").write_text("".join(json.dumps(one) + "\n" for one in moves))
    assert base_models.locate_base(asked()) == str(model)
    assert tokenization.load_tokenizer(asked()).pad_token_id == 0
    before = base_models.fingerprint_base(asked())
    for file in (model / "config.json", tmp_path / "classifier" / "config.json"):
        file.write_text(file.read_text() + " ")
        assert base_models.fingerprint_base(asked()) != before
        before = base_models.fingerprint_base(asked())
    with pytest.raises(ConfigError, match=r"^objective.classifier: set it"):
        tokenization.load_tokenizer(asked(str(model)))
    (model / "config.json").unlink()
    with pytest.raises(ConfigError, match="its files are gone"):
        base_models.locate_base(asked())


def test_a_caption_has_the_same_picture_whatever_stands_beside_it(tmp_path: Path) -> None:
    import torch

    stage = write_tiny_stages(tmp_path)
    options = text_to_image.Options(
        size=8, classifier=str(tmp_path / "classifier"), layers=1, width=16, heads=2, words=64
    )
    model = text_to_image.build_model(stage, [], options).eval()
    model.save_pretrained(tmp_path / "tuned")
    model = text_to_image.load_model(tmp_path / "tuned").eval()
    captions = ["a red flag", "a face", "a face", "two words"]

    def drawn(some: list[str]) -> list[str]:
        encoded = text_to_image.encode(some, None, options)
        rows = [{name: encoded[name][row] for name in encoded} for row in range(len(some))]
        with torch.inference_mode():
            found, _ = text_to_image.predict_batch(model, text_to_image.collate(rows, 0), rows, [], {})
        return [one["image"] for one in found]

    together = drawn(captions)
    assert together[1] == together[2] != together[0]
    assert [drawn([one])[0] for one in captions] == together
    found = text_to_image.find_problems(["a face", " ", None], ["", "", ""], options)
    assert found == [None, "the caption has no word", None]


def test_metrics_of_pictures_know_the_perfect_and_the_wrong() -> None:
    true = [picture(shade, 8, shade) for shade in (0, 60, 120, 155)]
    same = image_tokens.compute_statistics(true, [{"image": one, "codes": [1, 2]} for one in true], []).sum(0)
    assert image_tokens.compute_metrics(same, [])["mse"] == 0
    assert image_tokens.compute_metrics(same, [])["code_perplexity"] == pytest.approx(2)
    logits = np.random.default_rng(0).normal(size=(4, 3)).tolist()

    def judged(pictures: list[str], seen: list[list[float]]) -> dict[str, Any]:
        found = [
            {"image": one, "nats": 1.0, "judged": mine, "real": real}
            for one, mine, real in zip(pictures, seen, logits, strict=True)
        ]
        return picture_metrics.compute_metrics(picture_metrics.compute_statistics(true, found, []).sum(0), [])

    right = judged(true, logits)
    wrong = judged(true[::-1], [[3.0, 0.0, 0.0]] * 4)
    assert right["frechet_distance"] == pytest.approx(0, abs=1e-4) and wrong["frechet_distance"] > 1
    assert (right["recall_at_1"], wrong["recall_at_1"], wrong["recall_at_5"]) == (1, 0, 1)
    assert wrong["inception_score"] == pytest.approx(1) and right["inception_score"] > 1
    assert right["code_perplexity"] == pytest.approx(np.e)


def test_a_page_shows_pictures_and_a_terminal_describes_them(tmp_path: Path) -> None:
    uri = make_thumbnail(picture(5, 100))
    gallery = [{"caption": "a <b>", "true": uri, "challenger": uri}]
    page = write_report_without_pictures(tmp_path, details={"gallery": gallery}).read_text()
    assert page.count(uri) == 2 and "a &lt;b&gt;" in page
    assert uri not in write_report_without_pictures(tmp_path, details={}).read_text()
    assert describe_picture(picture(5, 6, format="JPEG")) == "JPEG, 6 x 6 pixels"


def test_new_writes_a_recipe_for_a_file_of_pictures(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [{"bytes": base64.b64decode(picture(number, 4, number)), "path": None} for number in range(40)]
    kinds = ["ab"[number % 2] for number in range(40)]
    pq.write_table(pa.table({"file": files, "kind": kinds, "note": ["some longer words"] * 40}), tmp_path / "f.parquet")
    guess = try_contract("some", "f.parquet", inspect_data(tmp_path / "f.parquet"), tmp_path)
    assert (guess.objective, guess.columns) == ("image-classification", {"image": "file", "label": "kind"})
    (tmp_path / "some.yaml").write_text(render_recipe("some", "f.parquet", guess))
    assert tokenization.load_tokenizer(load_recipe(tmp_path / "some.yaml")).pad_token_id == 0
    with pytest.raises(DataError, match="cannot tell which column is the image"):
        inspect_data(tmp_path / "f.parquet", objective="image-classification", text="note")
