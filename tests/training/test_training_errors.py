"""What a training says when it cannot go on, and what it leaves behind then."""

import logging
from pathlib import Path
from typing import Any

import pytest

from evertune.errors import ConfigError, DataError, TrainingError
from tests.helpers.model import LABELS, recipe, split_rows, table, text_rows, train, write_broken_model

ROWS = split_rows(text_rows(60))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"freeze": ["*embedings*"]}, "'\\*embedings\\*' matches no parameter; names look like bert"),
        ({"freeze": ["*"]}, "no parameter is left to train"),
        ({"train_top_layers": 3}, "train_top_layers: 3, but the model has 2 layers"),
    ],
)
def test_what_cannot_be_frozen_is_a_config_error(
    tiny_model: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(recipe(tiny_model, training=change), tmp_path, ROWS)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    model = write_broken_model(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1; lower training.learning_rate \(now 0.005\)"):
        train(recipe(model), tmp_path / "home", ROWS)
    assert not list((tmp_path / "home").rglob("*.safetensors"))  # no checkpoint of it to go on from


def test_out_of_memory_says_what_to_halve(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    one = recipe(tiny_model)
    with pytest.raises(TrainingError, match=r"out of memory with training.tokens_per_batch 128; halve it and double"):
        train(one, tmp_path, ROWS, log=lambda *_: torch.empty(10**15))


def test_a_full_disk_is_said_and_leaves_no_half_bundle(tiny_model: Path, tmp_path: Path, small_disk: None) -> None:
    with pytest.raises(TrainingError, match=r"nothing can be written to .*/run: .*; free some space and run again"):
        train(recipe(tiny_model), tmp_path, ROWS)
    assert not (tmp_path / "run" / "bundle").exists() and not (tmp_path / "run" / "candidate.json").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (text_rows(9, LABELS[:1]), "the train rows have only one label, 'refund'"),
        ([{**row, "split": "test"} for row in text_rows(9)], "no train rows; add rows"),
    ],
)
def test_rows_that_teach_nothing_are_a_data_error(
    tiny_model: Path, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        train(recipe(tiny_model), tmp_path, table(rows))


def test_a_label_without_train_rows_is_said(tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    change = {"epochs": 1, "class_weights": "balanced"}
    done = train(recipe(tiny_model, training=change), tmp_path, split_rows(text_rows(20, LABELS[:2])))
    assert "no train row has 'card': the model cannot learn it" in caplog.text
    assert done.steps > 0
