"""Where a base model lies, what tells it from another, and that its weights arrive in what is built from it."""

from pathlib import Path
from typing import Any

import pytest

from evertune.errors import ConfigError, TrainingError
from evertune.models import base as base_models
from evertune.objectives import text_classification, token_classification
from evertune.runtime.files import read_json
from evertune.runtime.precision import resolve_precision
from evertune.training import parameters as models
from tests.helpers.model import LABELS, TEXT, WEIGHTS, recipe, tokenizer, vocabulary, write_tiny_model
from tests.helpers.registry import Shop, settle

SIZE = {"vocab_size": len(vocabulary()), **WEIGHTS}


def family(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A tiny checkpoint of one of transformers' classes, and its encoder's weights by the encoder's own names."""
    import transformers

    kind, _, head = name.partition("For")
    kind = kind.removesuffix("Model")
    small = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": SIZE["vocab_size"]}
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    config = {"DistilBert": small, "ModernBert": {**SIZE, **ends}}.get(kind, SIZE)
    model = getattr(transformers, name)(getattr(transformers, f"{kind}Config")(**config))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder, dict((model.base_model if head else model).state_dict())


@pytest.mark.parametrize("pooling", ["mean", "model"])
@pytest.mark.parametrize(
    "name",
    [
        "BertModel",
        "BertForMaskedLM",
        "RobertaModel",
        "RobertaForMaskedLM",
        "DistilBertModel",
        "DistilBertForMaskedLM",
        "ModernBertModel",
        "ElectraForPreTraining",
        "MPNetForMaskedLM",
        "DebertaV2Model",
    ],
)
def test_pretrained_weights_arrive(tmp_path: Path, name: str, pooling: str) -> None:
    folder, before = family(name, tmp_path / "model")
    built = text_classification.build_model(folder, LABELS, text_classification.Options(pooling=pooling))
    after = built.base_model.state_dict()
    assert len(before.keys() & after.keys()) > 10
    assert [key for key in before.keys() & after.keys() if (before[key] != after[key]).any()] == []
    missing = {key for key in after.keys() - before.keys() if "pooler" not in key}
    assert missing == set()


@pytest.mark.parametrize("objective", [text_classification, token_classification])
def test_what_is_saved_comes_back(tmp_path: Path, tiny_model: Path, objective: Any) -> None:
    import torch

    built = models.build_model(objective, str(tiny_model), LABELS, objective.Options(), 5)
    built.save_pretrained(tmp_path / "saved")
    loaded = objective.load_model(tmp_path / "saved")
    before = built.state_dict()
    after = loaded.state_dict()
    assert before.keys() == after.keys()
    assert [key for key in before if (before[key] != after[key]).any()] == []
    batch = {"input_ids": torch.tensor([[2, 50, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    assert loaded.eval()(**batch).logits.shape[-1] == len(LABELS)


def test_padding_does_not_change_a_text(tiny_model: Path) -> None:
    import torch

    model = text_classification.build_model(tiny_model, LABELS, text_classification.Options()).eval()
    alone = text_classification.collate([{"input_ids": [2, 50, 3]}], 0)
    padded = text_classification.collate([{"input_ids": [2, 50, 3]}, {"input_ids": [2, *range(40, 60), 3]}], 0)
    with torch.inference_mode():
        assert torch.allclose(model(**alone).logits[0], model(**padded).logits[0], atol=1e-5)


def test_a_head_of_another_size_is_drawn_anew(tmp_path: Path, tiny_model: Path) -> None:
    options = text_classification.Options()
    text_classification.build_model(tiny_model, LABELS[:2], options).save_pretrained(tmp_path / "two")
    tokenizer().save_pretrained(tmp_path / "two")
    grown = models.build_model(text_classification, str(tmp_path / "two"), LABELS, options, 1)
    assert grown.classifier.weight.shape[0] == 3 and grown.config.id2label == dict(enumerate(LABELS))


def test_a_folder_without_weights_cannot_be_built_from(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match="no model can be built from it"):
        models.build_model(text_classification, str(folder), LABELS, text_classification.Options(), 1)


def test_places_of_a_base_model(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", str(tiny_model.parent))
    for text in (str(tiny_model), "${MODELS}/tiny", f"../{tiny_model.name}"):
        one = recipe(tiny_model).model_copy(update={"base_model": text})
        assert Path(base_models.locate_base(one)) == tiny_model.resolve()
    assert base_models.locate_base(recipe(tiny_model).model_copy(update={"base_model": "an-owner/a-model"})) == (
        "an-owner/a-model"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("./nowhere", "no such folder; give a hub id"),
        ("package:no_such_package/model", "no package 'no_such_package' is installed here; try `pip install"),
        ("package:evertune/model", "has no model in the folder 'model'"),
        ("${NOT_SET_ANYWHERE}/model", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_a_base_model_that_is_not_there_is_said(tiny_model: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        base_models.locate_base(recipe(tiny_model).model_copy(update={"base_model": text}))
    assert message in str(raised.value)


def test_a_folder_without_a_config_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no config"):
        base_models.locate_base(recipe(tmp_path))


def test_other_weights_have_another_fingerprint(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    before = base_models.fingerprint_base(recipe(folder))
    (folder / "notes.md").write_text("no part of the model")
    assert base_models.fingerprint_base(recipe(folder, TEXT, training={"seed": 4})) == before
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert base_models.fingerprint_base(recipe(folder)) != before


def test_precision_is_measured_once_and_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "machine.json"
    assert resolve_precision("bf16", memory) == "bf16" and resolve_precision("fp32", memory) == "fp32"
    assert not memory.exists()
    found = resolve_precision("auto", memory)
    (known,) = read_json(memory).values()
    assert found == known["precision"] and set(known["seconds"]) == {"float32", "bfloat16"}
    other = {"bf16": "fp32", "fp32": "bf16"}[found]
    memory.write_text(memory.read_text().replace(f'"{found}"', f'"{other}"'))
    assert resolve_precision("auto", memory) == other  # what is remembered decides


@pytest.mark.usefixtures("no_parity")
def test_the_champion_is_a_base_that_another_recipe_can_name(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    other = shop.recipe.model_copy(update={"name": "other", "base_model": f"champion:{shop.name}"})
    with pytest.raises(ConfigError, match="no champion of"):
        base_models.locate_base(other)
    made, version = shop.registered()
    settle(shop, made, version)
    assert Path(base_models.locate_base(other)) == Path(made.bundle) / "model"
    seen = base_models.fingerprint_base(other)
    later, second = shop.registered()
    settle(shop, later, second)
    assert Path(base_models.locate_base(other)) == Path(later.bundle) / "model"
    assert base_models.fingerprint_base(other) != seen  # other weights
    with pytest.raises(ConfigError, match="cannot build on itself"):
        base_models.locate_base(other.model_copy(update={"name": shop.name}))
