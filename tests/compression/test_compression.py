"""Variants of a bundle: what is packed comes back, and only what answers as well becomes champion."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.audit.forgetting import forget as forgetting
from evertune.compression import compress as compression
from evertune.compression import variants
from evertune.data.corpus import transactions as corpus
from evertune.errors import ConfigError
from evertune.registry.versions import lineage
from evertune.registry.versions import versions as models
from evertune.runtime.context import open_context
from evertune.runtime.home import home_of
from evertune.serving import bundle
from evertune.serving.portable import compressed
from tests.helpers.cli import Done
from tests.helpers.model import LABELS, recipe, split_rows, text_rows, train, write_tiny_decoder, write_tiny_model
from tests.helpers.objective_samples import SAMPLES, labels_of, short

INPUTS = [row["text"] for row in text_rows(12)]


@pytest.fixture(scope="module")
def original(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that has learned its rows."""
    one = recipe(tiny_model, training={"epochs": 8})
    return Path(train(one, tmp_path_factory.mktemp("original"), split_rows(text_rows(60)), LABELS).bundle)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.floats(0, 0.95))
@settings(deadline=None, max_examples=40)
def test_what_is_packed_comes_back(rows: int, columns: int, seed: int, sparsity: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    other = torch.randn(5, generator=draw)
    state = {"a.weight": weight, "b": other}
    for outputs in (0, 1):
        back = compressed.unpack_weights(compressed.pack_int8(state, {"a.weight": outputs}))
        step = weight.abs().amax(1 - outputs, keepdim=True) / 127
        assert ((back["a.weight"] - weight).abs() <= step / 2 + 1e-6).all() and torch.equal(back["b"], other)
    sparse = compressed.unpack_weights(compressed.pack_sparse(state, {"a.weight"}, sparsity))["a.weight"]
    kept = sparse != 0
    assert torch.equal(sparse[kept], weight[kept])
    gone = int((~kept).sum())
    assert abs(gone - sparsity * weight.numel()) <= 1
    if gone and kept.any():
        assert weight[~kept].abs().max() <= weight[kept].abs().min()


@pytest.mark.parametrize("method", variants.METHODS)
def test_a_variant_answers_as_its_original(method: compression.Method, original: Path, tmp_path: Path) -> None:
    variants.write_variant(original, tmp_path / "variant", method, 0.2)
    said = [bundle.load_predictor(place).predict(INPUTS) for place in (original, tmp_path / "variant")]
    assert [one["label"] for one in said[0]] == [one["label"] for one in said[1]]
    close = 1e-4 if method == "onnx" else 0.1
    assert all(abs(one["score"] - other["score"]) < close for one, other in zip(*said, strict=True))
    told = variants.read_compression(tmp_path / "variant")
    assert told is not None and (told["method"], told["of"]) == (method, bundle.compute_digest(original))
    if method in {"int8", "prune"}:
        assert variants.measure_size(tmp_path / "variant") < variants.measure_size(original)
    with pytest.raises(ConfigError, match="a variant already"):
        variants.write_variant(tmp_path / "variant", tmp_path / "again", "int8", 0.2)


# For each kind of layer a model: GPT-2's lie on their side, T5's head is its embeddings, pictures have convolutions.
KINDS = {
    "text-classification": "decoder.h.0.attn.c_attn.weight",
    "causal-lm": "transformer.h.0.mlp.c_fc.weight",
    "seq2seq": "decoder.block.0.layer.1.EncDecAttention.q.weight",
    "image-tokens": "decoder.3.weight",
    "image-classification": "resnet.embedder.embedder.convolution.weight",
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[Any]]:
    """An objective, a bundle of it, and inputs."""
    name = request.param
    folder = tmp_path_factory.mktemp("kind")
    sample = SAMPLES[name]
    base = decoder_with_weights(folder) if name == "text-classification" else sample["base"](folder)
    one = recipe(base, {"type": name, **short(name, 32), **sample.get("options", {})}, training={"epochs": 1})
    made = train(one, folder, split_rows(sample["rows"](20)), labels_of(name))
    return name, Path(made.bundle), [text for text in sample["inputs"] if text]


def decoder_with_weights(folder: Path) -> Path:
    from transformers import AutoConfig, AutoModel

    place = write_tiny_decoder(folder)
    AutoModel.from_config(AutoConfig.from_pretrained(place)).save_pretrained(place)
    return place


def states(model: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in model.state_dict().items() if torch.is_tensor(tensor)}


def test_half_of_the_weights_are_gone_and_all_others_are_as_they_were(
    kind: tuple[str, Path, list[Any]], tmp_path: Path
) -> None:
    name, made, _ = kind
    variants.write_variant(made, tmp_path / "variant", "prune", 0.5)
    assert variants.measure_size(tmp_path / "variant") < variants.measure_size(made)
    old, new = (bundle.load_predictor(place).model for place in (made, tmp_path / "variant"))
    named = set(compressed.find_weights(old))
    assert any(one.endswith(KINDS[name].partition(".")[2]) for one in named), sorted(named)
    before = states(old)
    after = states(new)
    gone = sum(int((after[one] == 0).sum()) for one in named)
    assert gone / sum(before[one].numel() for one in named) == pytest.approx(0.5, abs=0.01)
    assert all(torch.equal(before[one], after[one]) for one in before.keys() - named)
    if name == "seq2seq":
        assert new.lm_head.weight is new.shared.weight


def test_integers_answer_as_their_original(kind: tuple[str, Path, list[Any]], tmp_path: Path) -> None:
    name, made, inputs = kind
    variants.write_variant(made, tmp_path / "variant", "int8", 0.0)
    assert variants.measure_size(tmp_path / "variant") < variants.measure_size(made)
    both = [bundle.load_predictor(place) for place in (made, tmp_path / "variant")]
    assert len(both[1].predict(inputs)) == len(inputs)
    assert not any(type(part).__name__ == "Conv1D" for part in both[1].model.modules())
    whole = both[0].objective.collate(both[0].encode(inputs, SAMPLES[name]["targets"][: len(inputs)]), 0)
    batch = {key: value for key, value in whole.items() if key != "labels"}
    with torch.inference_mode():
        said = [one.model.eval()(**batch).logits for one in both]
    first, second = (one[0] if isinstance(one, tuple) else one for one in said)
    assert float((first - second).abs().max()) < 0.05 * float(first.abs().max())


def test_a_model_that_is_all_embeddings_is_left_as_it_is(tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "base", vocab_size=20_000)
    made = Path(train(recipe(base, training={"epochs": 1}), tmp_path, split_rows(text_rows(20)), LABELS).bundle)
    for method in ("int8", "prune"):
        with pytest.raises(ConfigError, match=r"hold 2.\d% of this model's parameters .minimum: 5%"):
            variants.write_variant(made, tmp_path / "variant", method, 0.5)
    assert not (tmp_path / "variant").exists()


def test_a_model_that_gives_more_than_logits_is_no_graph(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model, {"type": "embedding", "max_length": 32}, training={"epochs": 1})
    made = Path(train(one, tmp_path, split_rows(text_rows(30)), LABELS).bundle)
    with pytest.raises(ConfigError, match="cannot be exported to ONNX: its output is more than one tensor"):
        variants.write_variant(made, tmp_path / "variant", "onnx", 0.0)
    assert not (tmp_path / "variant").exists()


@pytest.mark.slow
def test_a_variant_of_the_champion_takes_its_place_only_within_the_limits(
    tiny_recipe: Callable[..., Path],
    evertune: Callable[..., Done],
    model_store: Path,
    tmp_path: Path,
    no_parity: None,
    monkeypatch: pytest.MonkeyPatch,
    retrain: Callable[[Any], Any],
) -> None:
    from evertune.config import load_recipe

    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "own"))
    shutil.copytree(model_store.with_name("empty"), tmp_path / "own")
    data = {"sources": [{"path": "rows.csv"}], "split": {"test": 0.4, "validation": 0.1}}
    training = {"epochs": 12, "learning_rate": 5e-3, "tokens_per_batch": 256, "precision": "fp32"}
    path = tiny_recipe(data=data, evaluation={"gate": {"min_rows": 5}, "bootstrap": 200}, training=training)
    one = load_recipe(path)
    assert retrain(one).decision == "promoted"
    text = next(row["text"] for row in corpus.read_rows(home_of(one), 1).to_pylist() if row["split"] == "train")
    seen = forgetting.forget_rows(open_context(one), {"text": [text]}, "a letter").versions
    assert [(version["version"], version["rows"]) for version in seen] == [(1, {"train": 1})]
    strict = evertune("compress", path, "--method", "prune", "--sparsity", "0.99", "--json")
    assert strict.status == 0 and strict.json["verdict"] == "held" and "minimum agreement" in strict.json["reason"], (
        strict
    )
    loose = evertune("compress", path, "--method", "int8", "--drop", "1", "--agreement", "0", "--json")
    assert (loose.json["verdict"], loose.json["version"], loose.json["of"]) == ("promoted", 3, 1), loose.json
    facts = [models.describe_version(home_of(one), one.registered_name, version) for version in (1, 3)]
    for key in ("snapshot", "fingerprint"):  # of the rows that the original has learned, forgotten or not
        assert facts[0]["model"][key] == facts[1]["model"][key]
    assert facts[0]["run"]["rows"] == facts[1]["run"]["rows"]
    shown = " ".join(evertune("trace", path, "--version", "3").out.split())
    assert "version 1, of which it is a compressed variant" in shown and "except for those that were forgotten" in shown
    told = forgetting.forget_rows(open_context(one), {"text": [text]}, "once more", dry_run=True)
    assert [(version["version"], version["rows"]) for version in told.versions] == []  # nothing new to forget
    versions = lineage.list_trained_versions(home_of(one), one.registered_name)
    assert [(version.snapshot, version.parents) for version in versions] == [(1, ()), (1, (1,)), (1, (1,))]
    history = evertune("history", path)
    assert "int8 variant of version 1" in history.out
    again = evertune("compress", path, "--method", "prune", "--json")
    assert again.status == 2 and "a variant already" in again.err
    on = load_recipe(path, ["data.fresh.start_from=champion", "training.epochs=1"])
    assert retrain(on).version == 4
    assert (
        models.describe_version(home_of(one), one.registered_name, 4)["model"]["start"] == "1"
    )  # the variant's are packed
