"""Batches that are computed in pieces, and what happens when memory runs out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from evertune.errors import ConfigError, SettingsError, TrainingError
from evertune.runtime.files import read_json
from evertune.training import micro_batches as pieces
from evertune.training.micro_batches import MicroBatches
from tests.helpers.model import difference, recipe, split_rows, text_rows, train, write_steady_model

ROWS = split_rows(text_rows(60))


class Learner:
    """A linear model, whose forward pass asks for more memory than there is if it is given too many rows."""

    def __init__(self, most: int) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Dropout(0.5))
        self.most = most

    def compute(self, batch: Any) -> Any:
        loss = self.model(batch["inputs"]).pow(2).sum()
        loss.backward()
        if len(batch["inputs"]) > self.most:
            torch.empty(10**15)  # gradients of this piece are there already
        return loss.detach()

    def step(self, parts: MicroBatches, batches: list[Any]) -> tuple[list[Any], Any]:
        torch.manual_seed(1)
        self.model.zero_grad()
        losses = [parts.run_batch(batch, self.compute, self.model) for batch in batches]
        return losses, self.model[0].weight.grad.clone()


def test_out_of_memory_in_the_midst_of_a_step_changes_nothing_of_its_gradient(caplog: pytest.LogCaptureFixture) -> None:
    batches = [{"inputs": torch.randn(rows, 4)} for rows in (2, 8, 3)]
    wanted = Learner(most=100).step(MicroBatches(4, lambda _: None), batches)
    known: list[int] = []
    found = Learner(most=2).step(MicroBatches(1, known.append), batches)
    assert known == [4] and "each batch is computed in 4 pieces" in caplog.text
    # Losses that were given before the memory ran out are of other dropout masks; the gradients are all new.
    torch.testing.assert_close((found[0][1:], found[1]), (wanted[0][1:], wanted[1]))


def test_a_row_that_does_not_fit_ends_the_training() -> None:
    with pytest.raises(TrainingError, match=r"out of memory with a single row; lower objective.max_length"):
        Learner(most=0).step(MicroBatches(1, lambda _: None), [{"inputs": torch.randn(3, 4)}])


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Learner(most=9).step(MicroBatches(1, lambda _: None), [{"inputs": torch.randn(3, 5)}])


@pytest.mark.parametrize("most", [8, 3])
def test_what_is_fastest_fits_and_leaves_no_trace(most: int) -> None:
    learner = Learner(most)
    batch = {"inputs": torch.randn(8, 4)}
    state = torch.get_rng_state()
    count = pieces.find_fastest(batch, learner.compute, learner.model)
    assert count in {1, 2, 4, 8} and (most == 8 or count >= 4)
    assert learner.model[0].weight.grad is None and torch.equal(torch.get_rng_state(), state)


def test_auto_learns_what_the_number_does_and_remembers_what_it_found(tmp_path: Path) -> None:
    model = write_steady_model(tmp_path / "model")
    steps = {"epochs": 2, "checkpoint_steps": 100}
    auto = train(recipe(model, training={**steps, "tokens_per_batch": "auto", "accumulation": 2}), tmp_path / "a", ROWS)
    number = train(recipe(model, training={**steps, "tokens_per_batch": 8192}), tmp_path / "b", ROWS)
    assert auto.steps == number.steps == 2
    assert difference(auto, number) < 1e-5
    remembered = [
        value for name, value in (read_json(tmp_path / "a" / "machine.json") or {}).items() if "pieces" in name
    ]
    assert len(remembered) == 1 and remembered[0] in {1, 2, 4, 8}


def test_a_batch_whose_rows_learn_from_one_another_is_never_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_steady_model(tmp_path / "model")
    given = {"type": "embedding", "max_length": 32}
    steps = {"epochs": 2, "checkpoint_steps": 100}
    number = train(recipe(model, given, training={**steps, "tokens_per_batch": 4096}), tmp_path / "a", ROWS)
    monkeypatch.setattr("evertune.training.micro_batches.find_fastest", lambda *_: 4)
    auto = train(recipe(model, given, training={**steps, "tokens_per_batch": "auto"}), tmp_path / "b", ROWS)
    assert difference(auto, number) == 0
    with pytest.raises(SettingsError, match="no part of it can be computed alone"):
        Learner(most=2).step(MicroBatches(1, lambda _: None, whole=True), [{"inputs": torch.randn(3, 4)}])


def test_such_a_batch_is_not_dealt_to_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match=r"training.processes: embedding learns from all pairs of a batch"):
        recipe(tmp_path, {"type": "embedding"}, training={"processes": 2})
    monkeypatch.setattr("evertune.training.distributed.process_group.get_world_size", lambda: 2)
    normalised = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    one = recipe(tmp_path)
    with pytest.raises(ConfigError, match=r"training.processes: this model learns from a batch as a whole"):
        pieces.plan_micro_batches(normalised, one.training, "fp32", tmp_path / "machine.json")
