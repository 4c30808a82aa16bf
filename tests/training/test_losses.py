"""What a recipe changes of the loss: each learns what its source says, and a crash changes nothing of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch.nn import functional

from evertune.config.losses import Fgm, FreeLb, Pgd
from evertune.errors import ConfigError
from evertune.objectives import text_classification
from evertune.training.kernels.unpadded import flatten_states, skip_padding
from evertune.training.methods import adversarial, losses, mixout, r_drop
from tests.helpers.model import (
    TAGS,
    TOKENS,
    difference,
    recipe,
    split_rows,
    tag_rows,
    text_rows,
    train,
    write_steady_model,
    write_tiny_seq2seq,
)
from tests.helpers.objective_samples import SAMPLES
from tests.helpers.picture import RESNET
from tests.training.test_resume import assert_same, crash_at

ROWS = split_rows(text_rows(20))
SHORT = {"checkpoint_steps": 2, "epochs": 2, "learning_rate": 2e-3}
BATCH = {
    "input_ids": torch.tensor([[2, 9, 3, 0, 0], [2, 8, 7, 6, 3]]),
    "attention_mask": torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]),
}


@pytest.fixture(scope="module")
def steady_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_steady_model(tmp_path_factory.mktemp("steady"))


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        (None, {"loss": "focal", "adversarial": "fgm", "ema": 0.9}),
        (None, {"loss": "class-balanced", "adversarial": {"type": "pgd", "steps": 2}, "mixout": 0.3, "r_drop": 1.0}),
        (TOKENS, {"adversarial": {"type": "freelb", "steps": 2}, "r_drop": 0.5, "label_smoothing": 0.1, "ema": 0.99}),
    ],
    ids=["fgm-ema", "pgd-mixout-r_drop", "freelb-tags"],
)
def test_resumed_equals_uninterrupted(tiny_model: Path, tmp_path: Path, objective: Any, settings: Any) -> None:
    one = recipe(tiny_model, *([objective] if objective else []), training={**SHORT, **settings})
    rows = split_rows(tag_rows(20)) if objective else ROWS
    labels = [TAGS] if objective else []
    with crash_at(3):
        train(one, tmp_path / "resumed", rows, *labels)
    whole = train(one, tmp_path / "whole", rows, *labels)
    assert_same(train(one, tmp_path / "resumed", rows, *labels), whole)
    assert whole.steps > 3


def test_pieces_change_nothing_of_what_an_adversary_teaches(steady_model: Path, tmp_path: Path) -> None:
    """FGM draws nothing: of batches in one piece and in three the same is learned."""
    settings = {**SHORT, "adversarial": "fgm", "r_drop": 1.0, "ema": 0.5, "epochs": 1}
    whole = train(recipe(steady_model, training=settings), tmp_path / "whole", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evertune.training.micro_batches.split_batch", _thirds)
        cut = train(recipe(steady_model, training=settings), tmp_path / "cut", ROWS)
    assert difference(whole, cut) < 1e-4


def _thirds(batch: Any, _: int) -> Any:
    size = len(batch["input_ids"])
    for places in torch.arange(size).chunk(3):
        yield {name: value[places] for name, value in batch.items()}


def test_focal_is_cross_entropy_where_gamma_goes_to_0_and_looks_past_ignored_words() -> None:
    logits = torch.randn(4, 3, 5)
    labels = torch.tensor([[0, 1, -100]] * 4)
    weights = torch.rand(5) + 0.5
    plain = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), weights, reduction="sum")
    assert losses.focal_loss(logits, labels, weights, 1e-9) == pytest.approx(float(plain), rel=1e-4)
    sure = torch.tensor([[4.0, 0.0]])
    chance = float(sure.softmax(-1)[0, 0])
    expected = (1 - chance) ** 2 * -torch.tensor(chance).log()
    assert losses.focal_loss(sure, torch.tensor([0]), None, 2.0) == pytest.approx(float(expected), rel=1e-3)


def test_effective_weights_lie_between_equal_and_inverse() -> None:
    values = ["a"] * 90 + ["b"] * 10
    labels = ["a", "b"]
    assert losses.effective_weights(values, labels, 1e-9).tolist() == pytest.approx([1, 1])
    inverse = losses.effective_weights(values, labels, 1 - 1e-5)
    assert float(inverse[1] / inverse[0]) == pytest.approx(9, rel=0.02)
    assert losses.effective_weights(["a"], labels, 0.9).isfinite().all()


def test_r_drop_is_the_mean_of_both_divergences() -> None:
    one, other = torch.randn(2, 3, 4)
    labels = torch.zeros(6, dtype=torch.int64)
    p = one.log_softmax(-1)
    q = other.log_softmax(-1)
    both = functional.kl_div(q, p, log_target=True, reduction="sum") + functional.kl_div(
        p, q, log_target=True, reduction="sum"
    )
    found = r_drop.symmetric_divergence(torch.cat([one, other]), labels)
    assert float(found) == pytest.approx(float(both) / 2, rel=1e-5)
    assert float(r_drop.symmetric_divergence(torch.cat([one, other]), labels - 100)) == 0


def _model(place: Path) -> Any:
    torch.manual_seed(0)
    options = text_classification.Options()
    return text_classification.build_model(place, ["a", "b", "c"], options)


@pytest.mark.parametrize("rule", [Fgm(epsilon=0.3), Pgd(epsilon=0.3), FreeLb(epsilon=0.3)], ids=lambda one: one.type)
def test_an_adversary_makes_the_loss_worse_within_its_radius_and_leaves_no_trace(steady_model: Path, rule: Any) -> None:
    model = _model(steady_model)
    labels = torch.tensor([0, 2])
    seen: list[Any] = []
    whole = adversarial._move_embeddings

    def watched(model: Any, batch: Any, delta: Any) -> Any:
        seen.append(delta.detach().clone())
        return whole(model, batch, delta)

    def loss(batch: Any) -> Any:
        return functional.cross_entropy(model(**batch).logits, labels, reduction="sum")

    def learn(batch: Any, parts: int) -> Any:
        found = loss(batch) / parts
        found.backward()
        return found.detach()

    plain = float(loss(BATCH))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversarial, "_move_embeddings", watched)
        adversarial.learn_adversarially(rule, model, learn, loss, BATCH)
    lengths = seen[-1].flatten(1).norm(dim=1)
    assert (lengths <= 0.3 + 1e-6).all() and (lengths > 0.05).all()
    assert (seen[-1][0, 3:] == 0).all()  # padding stays where it was
    with whole(model, BATCH, seen[-1]):
        assert float(loss(BATCH)) > plain
    assert float(loss(BATCH)) == pytest.approx(plain)
    assert model.get_input_embeddings()._forward_hooks == {}
    with pytest.raises(ZeroDivisionError):
        adversarial.learn_adversarially(rule, model, lambda *_: 1 / 0, lambda *_: 1 / 0, BATCH)
    assert model.get_input_embeddings()._forward_hooks == {}


def test_a_row_is_moved_alike_with_padding_and_without(steady_model: Path) -> None:
    model = _model(steady_model).eval()
    delta = torch.randn(2, 5, 32) * BATCH["attention_mask"][..., None]
    with adversarial._move_embeddings(model, BATCH, delta):
        padded = model(**BATCH).logits
    with skip_padding(model) as free, adversarial._move_embeddings(model, BATCH, delta):
        assert free
        assert torch.allclose(model(**BATCH).logits, padded, atol=1e-5)
    assert flatten_states(delta, BATCH["attention_mask"], 32).shape == (1, 32, 32)


@pytest.mark.parametrize("kind", ["T5", "Bart"])
def test_of_an_encoder_and_a_decoder_what_is_read_is_moved_and_not_what_is_said(kind: str) -> None:
    size = {"num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 32}
    size |= {
        f"{side}_{part}": value
        for side in ("encoder", "decoder")
        for part, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    config = getattr(transformers, f"{kind}Config")(d_model=16, vocab_size=20, decoder_start_token_id=0, **size)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    delta = torch.randn(2, 5, 16) * BATCH["attention_mask"][..., None]
    said: list[Any] = []
    model.get_decoder().get_input_embeddings().register_forward_hook(lambda *given: said.append(given[2]))
    given = {**BATCH, "decoder_input_ids": BATCH["input_ids"]}  # as long as what is read: shapes tell nothing
    plain = model(**given).logits
    with adversarial._move_embeddings(model, BATCH, delta):
        assert not torch.allclose(model(**given).logits, plain, atol=1e-4)
    assert torch.equal(*said)


@pytest.mark.parametrize("rule", ["fgm", "pgd", "freelb"])
def test_a_model_of_two_texts_learns_against_an_adversary(tmp_path: Path, rule: str) -> None:
    options = {"type": "seq2seq", "max_length": 32, "max_new_tokens": 4}
    base = write_tiny_seq2seq(tmp_path)
    rows = split_rows(SAMPLES["seq2seq"]["rows"](10))
    settings = {"epochs": 1, "tokens_per_batch": 512}
    made = [
        train(recipe(base, options, training={**settings, **given}), tmp_path / str(len(given)), rows, ())
        for given in ({}, {"adversarial": {"type": rule, "epsilon": 1.0}})
    ]
    assert difference(*made) > 1e-5


def test_mixout_keeps_the_expected_weight_and_is_gone_afterwards(steady_model: Path) -> None:
    layer = _model(steady_model).base_model.encoder.layer[0].intermediate.dense.train()
    model = type("Model", (), {"base_model": layer})
    states = torch.randn(3, 32)
    with mixout.mix_weights(model, 0.5):
        base = layer(states)
        with torch.no_grad():
            layer.weight += 0.1
        moved = torch.stack([layer(states) for _ in range(2000)]).mean(0)
        assert not torch.equal(layer(states), layer(states))
        judged = layer.eval()(states)
    assert torch.equal(judged, layer(states))
    assert torch.allclose(moved, layer(states), atol=0.12) and not torch.allclose(base, layer(states), atol=0.12)
    assert "forward" not in vars(layer)


def test_mixout_mixes_the_layers_of_gpt_2_and_says_where_there_are_none() -> None:
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    assert len(mixout.find_linear_layers(model)) == 4
    ids = torch.tensor([[3, 4, 5]])
    plain = model(input_ids=ids).logits
    with mixout.mix_weights(model, 0.9):
        torch.testing.assert_close(model(input_ids=ids).logits, plain)  # nothing was learned yet
        with torch.no_grad():
            for one in model.parameters():
                one.add_(0.1 * torch.randn(one.shape))
        assert not torch.allclose(model(input_ids=ids).logits, model(input_ids=ids).logits)
    network = transformers.AutoModelForImageClassification.from_config(transformers.AutoConfig.for_model(**RESNET))
    with pytest.raises(ConfigError, match=r"training\.mixout: the base model has no linear layers"):
        mixout.find_linear_layers(network)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "focal", "label_smoothing": 0.1}, "remove label_smoothing"),
        ({"loss": "class-balanced", "class_weights": "balanced"}, "remove class_weights"),
        ({"ema": 0.9, "processes": 2}, "ema: works in one process only"),
        ({"adversarial": "fgsm"}, "fgm"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        recipe(Path("base"), training=settings)


def test_a_loss_over_labels_is_refused_where_none_is_chosen() -> None:
    with pytest.raises(ValidationError, match=r"training.r_drop: pair-regression does not predict one label"):
        recipe(Path("base"), {"type": "pair-regression"}, training={"r_drop": 1.0})


def test_cross_entropy_by_name_is_what_is_learned_without_one() -> None:
    assert recipe(Path("base"), training={"loss": "cross-entropy"}) == recipe(Path("base"))
