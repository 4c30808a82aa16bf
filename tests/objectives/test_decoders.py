"""Decoders as base models, from GGUF files: read once, padded anywhere, with a head on the last token."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from evertune.config.methods import METHODS
from evertune.models import base as base_models
from evertune.objectives import text_classification, token_classification
from evertune.serving import bundle
from evertune.serving.portable import base_files
from evertune.tokenization import tokenize as tokenization
from evertune.training import kernels
from evertune.training import parameters as models
from tests.helpers.gguf import write_gguf
from tests.helpers.model import LABELS, TAGS, TEXT, TOKENS, recipe, split_rows, tag_rows, text_rows, train


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("decoder") / "tiny.gguf")


@pytest.fixture(scope="module")
def decoder(gguf: Path) -> str:
    return base_files.unpack_gguf(str(gguf), gguf.parent / "base_models")


def over(file: Path, objective: Any = TEXT, **sections: Any) -> Any:
    return recipe(file.parent, objective, **sections).model_copy(update={"base_model": file.name})


def test_a_gguf_file_is_read_once_and_told_from_others(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = over(gguf)
    place = Path(base_models.locate_base(one))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in place.iterdir()}
    monkeypatch.setattr(base_files, "_convert_gguf", None)  # nobody calls it again
    assert base_models.locate_base(one) == str(place)
    known = base_models.fingerprint_base(one)
    told = base_models.describe_base(one)
    assert (told["name"], told["hub"]) == ("tiny.gguf", False)
    copied = Path(shutil.copy(gguf, tmp_path / "other.gguf"))
    assert base_models.fingerprint_base(over(copied)) == known
    copied.write_bytes(copied.read_bytes()[:-1] + b"\1")
    assert base_models.fingerprint_base(over(copied)) != known


def test_what_is_no_decoder_is_said_by_check(tmp_path: Path, evertune: Any, write_recipe: Any) -> None:
    write_gguf(tmp_path / "unknown.gguf", "nobody-knows")
    (tmp_path / "broken.gguf").write_bytes(b"no model at all")
    for name, reason in (
        ("unknown", "nobody-knows"),
        ("broken", "cannot be read as a model"),
        ("none", "no such file"),
    ):
        done = evertune("check", write_recipe(tmp_path, base_model=f"./{name}.gguf"))
        assert done.status == 2 and reason in done.err, done.err
        assert f"base_model: ./{name}.gguf: " in done.err
    done = evertune("check", write_recipe(tmp_path, base_model="package:evertune/none.gguf"))
    assert "the package is there, but has no file 'none.gguf'" in done.err


@pytest.mark.parametrize("objective", [text_classification, token_classification])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_padding_nor_the_kernels_change_a_row(decoder: str, objective: Any, precision: str) -> None:
    model = models.build_model(objective, decoder, LABELS, objective.Options(max_length=32), 5).eval()
    rows = [{"input_ids": list(range(20, 20 + length)), "word_starts": [0]} for length in (5, 11, 3, 7)]
    given = objective.collate(rows, 0)
    tolerance = {"fp32": 1e-5, "bf16": 2e-2}[precision]

    def logits(batch: dict[str, Any]) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            found = model(**batch).logits
        return found if found.ndim == 2 else found[batch["attention_mask"] == 1]

    with torch.no_grad():
        wanted = logits(given)
        alone = torch.cat([logits(objective.collate([row], 0)) for row in rows])
    torch.testing.assert_close(alone, wanted, atol=tolerance, rtol=0)
    with kernels.accelerate_training(model, precision, torch.arange(40)) as free:
        assert free
        torch.testing.assert_close(logits(given), wanted, atol=tolerance, rtol=0)
        slopes = torch.autograd.grad(
            logits(given).float().square().sum(), model.base_model.layers[0].mlp.up_proj.weight
        )
    plain = torch.autograd.grad(logits(given).float().square().sum(), model.base_model.layers[0].mlp.up_proj.weight)
    torch.testing.assert_close(slopes[0], plain[0], atol=10 * tolerance, rtol=0.05)


def test_the_head_of_a_decoder_looks_at_the_last_token(decoder: str) -> None:
    model = models.build_model(text_classification, decoder, LABELS, text_classification.Options(), 5).eval()
    assert model.config.pooling == "last"
    with torch.no_grad():
        states = model.base_model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
        found = model(**text_classification.collate([{"input_ids": [5, 6, 7]}, {"input_ids": [8] * 9}], 0)).logits[0]
        torch.testing.assert_close(found, model.classifier(states[0, 2]), atol=1e-5, rtol=0)


def test_words_of_a_sentence_are_not_joined_and_may_be_tagged_at_their_end(gguf: Path) -> None:
    tokenizer = tokenization.load_tokenizer(over(gguf, TOKENS))
    options = token_classification.Options(max_length=6, tagged="last")
    sentence = ["ab", "c", "", "def"]
    found = token_classification.encode([sentence, ["a", "b", "c", "d", "e", "f"]], tokenizer, options)
    assert found["input_ids"][0] == tokenizer("ab c def")["input_ids"]
    assert found["word_starts"] == [[1, 2, -1, 5], [0, 1, 2, 3, 4, 5]]
    first = token_classification.encode([sentence], tokenizer, token_classification.Options(max_length=4))
    assert first["word_starts"] == [[0, 2, -1, 3]] and len(first["input_ids"][0]) == 4 and first["full_length"] == [6]


@pytest.mark.parametrize("objective", ["text", "tokens"])
def test_a_decoder_is_tuned_by_an_adapter_and_answers_beside_its_file(
    gguf: Path, tmp_path: Path, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options, rows, labels = {
        "text": (TEXT, text_rows(24), LABELS),
        "tokens": ({**TOKENS, "tagged": "last"}, tag_rows(24), TAGS),
    }[objective]
    training = {"method": {"type": "lora", "merge": objective == "text"}, "epochs": 1, "precision": "bf16"}
    one = over(gguf, options, training=training)
    made = train(one, tmp_path, split_rows(rows), labels)
    inputs = [row.get("text") or row["tokens"] for row in rows[:3]]
    assert len(bundle.load_predictor(Path(made.bundle), "bf16").predict(inputs)) == 3
    saved = {file.name for file in (Path(made.bundle) / "model").iterdir()}
    assert ("model.safetensors" in saved) == (objective == "text")


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_virtual_tokens_come_before_a_decoders_own(decoder: str, name: str) -> None:
    from evertune.serving.portable import adapters

    model = models.build_model(text_classification, decoder, LABELS, text_classification.Options(), 5).eval()
    adapters.attach_adapter(model, METHODS[name]().model_dump(), "")
    with torch.no_grad():
        alone = model(**text_classification.collate([{"input_ids": [5, 6, 7]}], 0)).logits
        padded = model(**text_classification.collate([{"input_ids": [5, 6, 7]}, {"input_ids": [8] * 9}], 0)).logits[:1]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=0)


def test_a_prefix_needs_a_model_that_takes_one(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    from evertune.serving.portable import adapters

    DistilBertModel(DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=50)).save_pretrained(
        tmp_path
    )
    model = models.build_model(text_classification, str(tmp_path), LABELS, text_classification.Options(), 5)
    adapters.attach_adapter(model, METHODS["prefix"]().model_dump(), "")
    with pytest.raises(ValueError, match="models of the family distilbert take none; choose lora or prompt"):
        model(input_ids=torch.tensor([[0, 1]]), attention_mask=torch.ones(1, 2, dtype=torch.long))
