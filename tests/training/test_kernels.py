"""What makes a training step fast must compute what the plain model computes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from evertune.training import kernels
from evertune.training.kernels import acceleration, attention, dropout, varlen
from evertune.training.kernels.layout import FromBuckets, Layout, ToBuckets
from evertune.training.kernels.unpadded import skip_padding
from evertune.training.kernels.vocabulary import compact_embedding
from evertune.training.parameters import build_optimizer
from tests.helpers.model import WEIGHTS

SIZE = {"vocab_size": 50, "max_position_embeddings": 40, "pad_token_id": 1, **WEIGHTS}
LENGTHS = [5, 9, 1, 5, 30, 9]


def model(family: str, **config: Any) -> Any:
    import transformers

    torch.manual_seed(3)
    settings = getattr(transformers, f"{family}Config")(**{**SIZE, "num_labels": 3, **config})
    kind = "Model" if family in {"Llama", "MPNet"} else "ForTokenClassification"
    return getattr(transformers, f"{family}{kind}")(settings)


def batch(seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    ids = np.full((len(LENGTHS), max(LENGTHS)), SIZE["pad_token_id"])
    mask = np.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = random.integers(2, 40, length)
        mask[row, :length] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def states(one: Any, given: dict[str, Any]) -> Any:
    """Logits or states of the real tokens."""
    found = one(**given)
    return (found.logits if "logits" in found else found.last_hidden_state)[given["attention_mask"] == 1]


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("Bert", {}),
        ("Roberta", {}),
        ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
        ("Electra", {"embedding_size": 16}),
        ("Llama", {"num_key_value_heads": 1}),
    ],
)
def test_without_padding_the_logits_are_those_of_the_padded_model(family: str, config: dict[str, Any]) -> None:
    one = model(family, **config).eval()
    with torch.no_grad():
        wanted = states(one, batch())
        with skip_padding(one) as free:
            assert free
            torch.testing.assert_close(states(one, batch()), wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(states(one, batch()), wanted, atol=0, rtol=0)  # and an ordinary model again


@pytest.mark.parametrize(("family", "config"), [("Bert", {}), ("Roberta", {})])
def test_over_cumulative_lengths_logits_and_gradients_are_the_same(
    family: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The way of a GPU; torch computes it on a CPU too, without causal masks."""
    one = model(family, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **config).train()
    wanted = states(one, batch())
    slopes = torch.autograd.grad(wanted.square().sum(), one.base_model.embeddings.word_embeddings.weight)[0]
    monkeypatch.setattr(varlen, "supports_device", lambda device: True)
    caplog.set_level("DEBUG", "evertune")
    before = torch.get_rng_state()
    with skip_padding(one) as free:
        assert free
        assert "varlen=True" in caplog.text
        assert torch.get_rng_state().equal(before)
        found = states(one, batch())
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        mine = torch.autograd.grad(found.square().sum(), one.base_model.embeddings.word_embeddings.weight)[0]
        torch.testing.assert_close(mine, slopes, atol=1e-5, rtol=1e-4)


def test_a_model_for_which_torch_has_no_such_kernel_takes_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU: one with a causal mask."""
    one = model("Llama", num_key_value_heads=1).eval()
    monkeypatch.setattr(varlen, "supports_device", lambda device: True)
    with torch.no_grad():
        wanted = states(one, batch())
        with skip_padding(one) as free:
            assert free
            torch.testing.assert_close(states(one, batch()), wanted, atol=1e-5, rtol=0)


def test_jagged_attention_takes_fewer_heads_of_keys_and_leaves_tokens_of_no_row_empty() -> None:
    torch.manual_seed(0)
    query = torch.randn(20, 4, 8)
    key = torch.randn(20, 2, 8)
    value = torch.randn(20, 2, 8)
    found = varlen.attend_jagged(query, key, value, Layout([9, 7], 20, "cpu", varlen=True), 0.3, 0.0, False)
    for rows in (slice(0, 9), slice(9, 16)):
        q, k, v = (one[rows].transpose(0, 1) for one in (query, key, value))
        wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True)
        torch.testing.assert_close(found[rows], wanted.transpose(0, 1))
    assert not found[16:].any()


def test_a_model_with_positions_of_its_own_keeps_its_padding(caplog: pytest.LogCaptureFixture) -> None:
    one = model(
        "MPNet",
    ).eval()
    caplog.set_level("INFO", "evertune")
    with torch.no_grad():
        wanted = states(one, batch())
        with skip_padding(one) as free:
            assert not free
            torch.testing.assert_close(states(one, batch()), wanted, atol=0, rtol=0)
    assert "mpnet keeps its padding" in caplog.text


@pytest.mark.parametrize("chance", [0.0, 1e-9])  # torch's kernel, and the one with dropout
def test_no_token_attends_to_another_row(chance: float) -> None:
    one = model("Bert", attention_probs_dropout_prob=chance, hidden_dropout_prob=0.0).train()
    given = batch()
    other = batch()
    other["input_ids"][4, :30] = 7
    rows = given["attention_mask"].nonzero()[:, 0]
    with skip_padding(one) as free:
        assert free
        before = states(one, given)
        after = states(one, other)
    assert torch.equal(before[rows != 4], after[rows != 4]) and not torch.equal(before[rows == 4], after[rows == 4])


def gradients(one: Any, given: dict[str, Any], precision: str) -> dict[str, Any]:
    one.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = states(one, given).float().pow(2).sum()
    loss.backward()
    return {name: part.grad.clone() for name, part in one.named_parameters() if part.grad is not None}


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_the_gradients_are_those_of_the_plain_model(precision: str, close: float) -> None:
    one = model("Bert", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0).train()
    wanted = gradients(one, batch(), "fp32")
    with kernels.accelerate_training(one, precision, torch.arange(50)):  # all named: the embedding trains as it is
        found = gradients(one, batch(), precision)
    scale = max(float(part.norm()) for part in wanted.values())
    assert found.keys() == wanted.keys()
    for name, part in wanted.items():
        assert float((found[name] - part).norm()) < close * max(float(part.norm()), 0.1 * scale), name


def test_attention_with_dropout_computes_what_its_formula_says(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Any] = []

    def kept(shape: Any, chance: float, dtype: Any) -> Any:
        masks.append((torch.rand(shape) >= chance).to(dtype) / (1 - chance))
        return masks[-1]

    monkeypatch.setattr(dropout, "draw_mask", kept)
    monkeypatch.setattr("evertune.training.kernels.layout.VAIN", 100)  # several buckets
    monkeypatch.setattr(attention, "CACHED", 500)  # several pieces a bucket
    lengths = [12, 12, 9, 5, 5, 5, 5, 5, 5, 5, 3, 1]
    flat = sum(lengths) + 4  # the last belong to no row
    q, k, v = (torch.randn(1, 2, flat, 4, requires_grad=True) for _ in range(3))
    layout = Layout(lengths, flat, "cpu")
    assert len(layout.buckets) > 1 and not all(one.full for one in layout.buckets)
    found, _ = attention.attend(torch.nn.Module(), q, k, v, None, layout=layout, dropout=0.3)
    above = torch.randn_like(found)
    given = torch.autograd.grad(found, (q, k, v), above)

    drawn = [row for one in masks for row in one.unflatten(0, (-1, 2))]  # by row: (heads, width, width)
    assert len(drawn) == len(lengths) < 2 * len(masks)
    parts = []
    start = 0
    for length, mask in zip(lengths, drawn, strict=True):
        rows = slice(start, start + length)
        weights = (q[0, :, rows] @ k[0, :, rows].transpose(1, 2) / 2).softmax(-1)
        parts.append((weights * mask[:, :length, :length] @ v[0, :, rows]).transpose(0, 1))
        start += length
    wanted = torch.cat([*parts, torch.zeros(4, 2, 4)])[None]
    torch.testing.assert_close(found, wanted)
    for one, other in zip(given, torch.autograd.grad(wanted, (q, k, v), above), strict=True):
        torch.testing.assert_close(one, other)


@hypothesis.given(st.lists(st.integers(1, 70), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 9))
@hypothesis.settings(deadline=None, max_examples=50)
def test_every_vector_has_one_place_in_the_buckets_and_finds_its_way_back(
    lengths: list[int], heads: int, more: int
) -> None:
    lengths = sorted(lengths, reverse=True)
    flat = torch.randn(sum(lengths) + more, heads, 2, requires_grad=True)
    layout = Layout(lengths, len(flat), "cpu")
    assert sum(one.rows for one in layout.buckets) == len(lengths)
    laid = ToBuckets.apply(flat, layout.moves(heads))
    start = first = 0
    for bucket in layout.buckets:
        part = laid[bucket.start * heads :][: bucket.rows * heads * bucket.width]
        for row, states in enumerate(part.view(bucket.rows, heads, bucket.width, 2)):
            length = lengths[first + row]
            assert bucket.full <= (length == bucket.width)
            assert torch.equal(states[:, :length], flat[start : start + length].transpose(0, 1))
            start += length
        first += bucket.rows
    again = FromBuckets.apply(laid, layout.moves(heads), heads)
    assert torch.equal(again[: sum(lengths)], flat[: sum(lengths)]) and not again[sum(lengths) :].any()
    above = torch.randn_like(flat)
    (gradient,) = torch.autograd.grad(again, flat, above)
    assert torch.equal(gradient[: sum(lengths)], above[: sum(lengths)]) and not gradient[sum(lengths) :].any()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("chance", [0.001, 0.1, 0.5])
def test_a_mask_drops_its_share_and_keeps_the_mean(chance: float, kind: Any) -> None:
    torch.manual_seed(1)
    masks = torch.stack([dropout.draw_mask((30, 101), chance, kind) for _ in range(200)]).float()
    scale = float(torch.tensor(1 / (1 - chance), dtype=kind))
    assert set(masks.unique().tolist()) == {0.0, scale}
    share = float((masks == 0).float().mean())
    assert abs(share - chance) < 5 * (chance / masks.numel()) ** 0.5 + 5 / 256 / 200**0.5  # the level is drawn by mask


def test_masks_follow_torchs_generator() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = dropout.draw_mask((64,), 0.5, torch.float32)
    second = dropout.draw_mask((64,), 0.5, torch.float32)
    torch.set_rng_state(state)
    assert torch.equal(dropout.draw_mask((64,), 0.5, torch.float32), first) and not torch.equal(first, second)


def trained(one: Any, named: Any, hold: Callable[[Any, Any], Any], steps: int = 6) -> tuple[Any, Any]:
    """The weights after some steps of AdamW, and the logits of other words in the midst of the training."""
    with hold(one, named):
        update = build_optimizer(one, 1e-2, None, 0.1)
        for step in range(steps):
            gradients(one, batch(step), "fp32")
            torch.nn.utils.clip_grad_norm_(one.parameters(), 1.0)
            update.step()
        one.eval()
        with torch.no_grad():
            ids = torch.arange(2, 50)[None]
            seen = states(one, {"input_ids": ids[:, 10:], "attention_mask": torch.ones_like(ids[:, 10:])})
        one.train()
    return seen, one.state_dict()


def test_a_compact_embedding_learns_what_the_whole_one_does() -> None:
    import contextlib

    named = torch.from_numpy(np.unique(np.concatenate([batch(step)["input_ids"].flatten() for step in range(6)])))
    named = torch.unique(torch.cat([named, torch.tensor([1])]))
    plain, small = (
        model("Bert", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0, vocab_size=90).train()
        for _ in range(2)
    )
    wanted, weights = trained(plain, named, lambda *_: contextlib.nullcontext())
    with compact_embedding(small, named) as held:
        assert held and len(small.get_input_embeddings().weight) == len(named) + 1
    found, learned = trained(small, named, compact_embedding)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    for name, part in weights.items():
        torch.testing.assert_close(learned[name], part, atol=1e-4, rtol=0, msg=name)
    table = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(learned[table][80], model("Bert", vocab_size=90).state_dict()[table][80])  # it decayed


@pytest.mark.slow
def test_compiled_layers_learn_the_same() -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler here: install g++")
    plain, other = (model("Bert", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0).train() for _ in range(2))
    named = torch.arange(50)
    wanted, weights = trained(plain, named, lambda one, ids: kernels.accelerate_training(one, "fp32", ids))
    found, learned = trained(
        other, named, lambda one, ids: kernels.accelerate_training(one, "fp32", ids, compiled=True)
    )
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    for name, part in weights.items():
        torch.testing.assert_close(learned[name], part, atol=1e-4, rtol=0, msg=name)
    assert not any(one._compiled_call_impl for one in other.modules())


def test_fp32_products_take_tf32_only_while_a_model_trains_on_a_gpu() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="out of memory"), acceleration._enable_tensor_cores():
        assert torch.get_float32_matmul_precision() == "high" != before
        raise RuntimeError("out of memory")
    assert torch.get_float32_matmul_precision() == before


def test_all_is_as_before_afterwards(tmp_path: Path) -> None:
    one = model("Bert").train()
    before = {name: id(part) for name, part in one.named_parameters()}
    with kernels.accelerate_training(one, "bf16", torch.arange(2, 20)):
        assert any("forward" in vars(part) for part in one.modules())
    assert not any("forward" in vars(part) for part in one.modules())
    assert {name: id(part) for name, part in one.named_parameters()} == before
    assert one.config._attn_implementation != attention.NAME
