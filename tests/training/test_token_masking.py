"""Word dropout: tokens hidden from the model while it learns."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.errors import ConfigError
from evertune.training.methods.token_masking import build_masking
from tests.helpers.model import history, recipe, split_rows, text_rows, tokenizer, train, write_tiny_model

ROWS = split_rows(text_rows(60))


@given(st.lists(st.lists(st.integers(0, 60), min_size=8, max_size=8), min_size=1, max_size=6), st.integers(0, 99))
@settings(deadline=None)
def test_only_real_tokens_are_hidden(rows: list[list[int]], seed: int) -> None:
    import torch

    hider = build_masking(tokenizer(), 0.49)
    assert hider is not None
    torch.manual_seed(seed)
    ids = torch.tensor(rows)
    hidden = hider.hide_tokens(ids)
    changed = hidden != ids
    assert set(hidden[changed].tolist()) <= {hider.mask_id}
    assert set(ids[changed].tolist()).isdisjoint(tokenizer().all_special_ids)  # [PAD], [CLS], [SEP], ...


def test_the_share_of_hidden_tokens_is_the_one_asked_for() -> None:
    import torch

    torch.manual_seed(0)
    hider = build_masking(tokenizer(), 0.2)
    assert hider is not None and build_masking(tokenizer(), 0.0) is None
    assert float((hider.hide_tokens(torch.full((100, 100), 50)) == hider.mask_id).float().mean()) == pytest.approx(
        0.2, abs=0.02
    )


def test_tokens_are_hidden_while_training_only(tiny_model: Path, tmp_path: Path) -> None:
    """At a rate of next to nothing the validation of both is the same, the loss in training is not."""
    still = {"learning_rate": 1e-12, "epochs": 1}
    for share in (0.0, 0.4):
        train(recipe(tiny_model, training={**still, "mask_tokens": share}), tmp_path / str(share), ROWS)
    plain, masked = (history(tmp_path / share) for share in ("0.0", "0.4"))
    assert plain[-1]["eval_loss"] == pytest.approx(masked[-1]["eval_loss"], abs=1e-6)
    assert plain[0]["loss"] != pytest.approx(masked[0]["loss"], abs=1e-4)


def test_without_a_mask_token_nothing_can_be_hidden(tmp_path: Path) -> None:
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    model = write_tiny_model(tmp_path / "model", special=special)
    with pytest.raises(ConfigError, match=r"training.mask_tokens: 0.1, but .* no mask token; set it to 0"):
        train(recipe(model, training={"mask_tokens": 0.1}), tmp_path / "home", ROWS)
    with pytest.raises(ValueError, match=r"less than 0\.5"):
        recipe(model, training={"mask_tokens": 0.5})
