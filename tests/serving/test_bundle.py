"""A model bundle: whole or absent, known by its bytes, and served by its own code."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from evertune.errors import TrainingError
from evertune.objectives import load_objective, text_classification
from evertune.registry.versions.parity import TOLERANCE
from evertune.serving import bundle
from tests.helpers.model import LABELS, recipe, split_rows, text_rows, tokenizer, train

INPUTS = ["my card was lost", "when will the parcel arrive", ""]


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = recipe(tiny_model, training={"epochs": 1})
    return Path(train(one, tmp_path_factory.mktemp("made"), split_rows(text_rows(30))).bundle)


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def load(folder: Path) -> Any:
    """The parts that `bundle.write` takes, from a bundle."""
    objective = load_objective("text-classification")
    return objective.load_model(folder / "model"), tokenizer(), objective, bundle.read_card(folder)


def test_the_same_parts_give_the_same_bundle(made: Path, tmp_path: Path) -> None:
    first, second = (bundle.write_bundle(tmp_path / name, *load(made)) for name in ("first", "second"))
    assert first == second == bundle.compute_digest(tmp_path / "first")
    assert {file.name for file in (tmp_path / "first" / "code").iterdir()} == {
        "__init__.py",
        "batching.py",
        "inference.py",
        "objective.py",
        "shared",
    }


@pytest.mark.parametrize("file", ["evertune.json", "model/model.safetensors", "model/config.json", "code/objective.py"])
def test_the_digest_changes_with_any_byte(copied: Path, file: str) -> None:
    before = bundle.compute_digest(copied)
    content = bytearray((copied / file).read_bytes())
    content[-2] ^= 1
    (copied / file).write_bytes(content)
    assert bundle.compute_digest(copied) != before


def test_the_digest_knows_names_and_no_owner_time_or_cache(copied: Path) -> None:
    before = bundle.compute_digest(copied)
    (copied / "code" / "__pycache__").mkdir(exist_ok=True)
    (copied / "code" / "__pycache__" / "objective.cpython-311.pyc").write_bytes(b"made by an import")
    (copied / "evertune.json").chmod(0o600)
    (copied / "evertune.json").touch()
    assert bundle.compute_digest(copied) == before
    (copied / "model" / "config.json").rename(copied / "model" / "configuration.json")
    assert bundle.compute_digest(copied) != before


def test_a_write_that_fails_leaves_the_old_bundle(made: Path, copied: Path) -> None:
    before = bundle.compute_digest(copied)
    model, words, objective, card = load(made)
    with pytest.raises(TypeError):
        bundle.write_bundle(
            copied, model, words, objective, {**card, (1, 2): "no JSON key, so the card cannot be written"}
        )
    assert bundle.compute_digest(copied) == before
    assert [file.name for file in copied.parent.iterdir()] == [copied.name]  # no scratch beside it


def test_a_write_that_fails_leaves_no_half_bundle(made: Path, tmp_path: Path) -> None:
    model, words, objective, card = load(made)
    with pytest.raises(TypeError):
        bundle.write_bundle(tmp_path / "new", model, words, objective, {**card, (1, 2): ""})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_had_written_goes_with_the_next_write(made: Path, tmp_path: Path) -> None:
    left = tmp_path / ".bundle.0a1b2c3d" / "model"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    bundle.write_bundle(tmp_path / "bundle", *load(made))
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_predictions_come_in_order_whatever_the_batches(made: Path) -> None:
    predictor = bundle.load_predictor(made)
    rows = [row["text"] for row in text_rows(20)]
    alone = [predictor.predict([text])[0] for text in rows]
    together = predictor.predict(rows)
    assert [one["label"] for one in together] == [one["label"] for one in alone]
    assert [one["score"] for one in together] == pytest.approx([one["score"] for one in alone], abs=1e-5)
    assert predictor.predict([]) == []


def test_predictions_are_those_of_one_padded_batch_with_a_mask(made: Path) -> None:
    predictor = bundle.load_predictor(made)
    texts = [row["text"] for row in text_rows(20)]
    batch = predictor.objective.collate(predictor.encode(texts), predictor.tokenizer.pad_token_id)
    with torch.inference_mode():
        likely = predictor.model(**batch).logits.softmax(-1)
    assert [one["label"] for one in predictor.predict(texts)] == [LABELS[index] for index in likely.argmax(-1)]
    assert [one["score"] for one in predictor.predict(texts)] == pytest.approx(likely.max(-1).values.tolist(), abs=1e-6)


def test_bf16_is_to_the_bit_what_autocast_gives(made: Path) -> None:
    predictor = bundle.load_predictor(made, "bf16")
    plain = text_classification.load_model(made / "model").eval()
    plain.set_attn_implementation("eager")
    batch = predictor.objective.collate(predictor.encode([row["text"] for row in text_rows(20)]), 0)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(predictor.model(**batch).logits, plain(**batch).logits)
    assert {weight.dtype for weight in predictor.model.parameters()} == {torch.float32, torch.bfloat16}


def test_bf16_predicts_within_the_tolerance_of_fp32(made: Path) -> None:
    texts = [row["text"] for row in text_rows(20)]
    exact, quick = (bundle.load_predictor(made, precision).predict(texts) for precision in ("fp32", "bf16"))
    assert [one["label"] for one in quick] == [one["label"] for one in exact]
    assert [one["score"] for one in quick] == pytest.approx([one["score"] for one in exact], abs=TOLERANCE["bf16"])


def test_a_bundle_is_deterministic_and_knows_its_labels(made: Path) -> None:
    predictor = bundle.load_predictor(made)
    assert predictor.names == list(LABELS)
    assert predictor.predict(INPUTS) == predictor.predict(INPUTS)  # no dropout
    card = bundle.read_card(made)
    assert card["objective"] == "text-classification" and card["snapshot"]["version"] == 3 and card["run_id"] == "r"


def test_two_bundles_in_one_process_share_no_code(made: Path, copied: Path) -> None:
    code = copied / "code" / "objective.py"
    code.write_text(
        code.read_text() + "\n\ndef decode(logits, examples, *_):\n    return ['other code'] * len(examples)\n"
    )
    changed = bundle.load_predictor(copied)
    original = bundle.load_predictor(made)
    assert changed.predict(INPUTS) == ["other code"] * 3
    assert [one.keys() for one in original.predict(INPUTS)] == [{"label", "score"}] * 3


def cut_weights(folder: Path) -> None:
    file = folder / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])


def cut_card(folder: Path) -> None:
    (folder / "evertune.json").write_text('{"name": "ti')


def spoil_code(folder: Path) -> None:
    (folder / "code" / "objective.py").write_text("def broken(:\n")


def lose_import(folder: Path) -> None:
    (folder / "code" / "objective.py").write_text("import a_package_that_is_no_longer_here\n")


def lose_code(folder: Path) -> None:
    shutil.rmtree(folder / "code")


def lose_weights(folder: Path) -> None:
    (folder / "model" / "model.safetensors").unlink()


def other_options(folder: Path) -> None:
    card = json.loads((folder / "evertune.json").read_text())
    (folder / "evertune.json").write_text(json.dumps({**card, "options": {"unknown": 1}}))


DAMAGES = [cut_weights, cut_card, spoil_code, lose_import, lose_code, lose_weights, other_options]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_said(copied: Path, damage: Any) -> None:
    damage(copied)
    with pytest.raises(TrainingError, match=f"{copied} cannot be loaded"):
        bundle.load_predictor(copied)


def test_a_card_that_is_gone_or_damaged_is_said(copied: Path) -> None:
    cut_card(copied)
    with pytest.raises(TrainingError, match="cannot be read"):
        bundle.read_card(copied)
    (copied / "evertune.json").unlink()
    with pytest.raises(TrainingError, match="no model bundle"):
        bundle.read_card(copied)
