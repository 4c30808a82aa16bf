"""A training that was killed and started again ends as one that was not: same order, same weights, same metrics."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evertune.records import Candidate
from evertune.serving import bundle
from evertune.training.progress import Progress
from evertune.training.trainer import TokenTrainer
from tests.helpers.model import TAGS, TOKENS, difference, history, recipe, split_rows, tag_rows, text_rows, train
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow

ROWS = split_rows(text_rows(60))  # 21 steps of 3 epochs, 7 each
STEPS = 21
OFTEN = {"checkpoint_steps": 3}
KILLED = """
import json, os, sys
from pathlib import Path
from tests.helpers.model import recipe, split_rows, text_rows, train
from evertune.training import trainer as loop

model, place, training, last = sys.argv[1:]
whole = loop.TokenTrainer.training_step

def dies(self, *arguments):
    if self.state.global_step == int(last):
        os._exit(9)
    return whole(self, *arguments)

loop.TokenTrainer.training_step = dies
train(recipe(Path(model), training=json.loads(training)), Path(place), split_rows(text_rows(60)))
"""


class CrashError(BaseException):
    """What no handler takes for an error of its own."""


@contextlib.contextmanager
def crash_at(last: int) -> Iterator[None]:
    """The training inside stops when it begins the step after `last`."""
    whole = TokenTrainer.training_step

    def dies(self: Any, *arguments: Any) -> Any:
        if self.state.global_step == last:
            raise CrashError
        return whole(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(CrashError):
        patch.setattr(TokenTrainer, "training_step", dies)
        yield


@pytest.fixture(scope="module")
def uninterrupted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A training with frequent checkpoints that nothing disturbs."""
    return train(recipe(tiny_model, training=OFTEN), tmp_path_factory.mktemp("whole"), ROWS)


def assert_same(resumed: Candidate, whole: Candidate) -> None:
    """Weights, facts and every metric by step; the history of the resumed one was written in pieces."""
    ours, theirs = (sorted(history(Path(one.run_folder).parent), key=str) for one in (resumed, whole))
    assert [(one["step"], one.keys()) for one in ours] == [(one["step"], one.keys()) for one in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=1e-5)
    assert difference(resumed, whole) < 1e-6
    assert (resumed.steps, resumed.epochs) == (whole.steps, whole.epochs)
    assert resumed.train_loss == pytest.approx(whole.train_loss, abs=1e-6)


@pytest.mark.parametrize("method", ["adalora", "p-tuning", {"type": "lora", "dropout": 0.1, "merge": False}])
def test_a_method_goes_on_where_it_was(tiny_model: Path, tmp_path: Path, method: Any) -> None:
    one = recipe(tiny_model, training={"method": method, "epochs": 2, "learning_rate": 2e-2, **OFTEN})
    whole = train(one, tmp_path / "whole", ROWS)
    with crash_at(10):  # adalora has begun to take ranks
        train(one, tmp_path / "killed", ROWS)
    assert_same(train(one, tmp_path / "killed", ROWS), whole)


@pytest.mark.slow
def test_killed_in_every_epoch_it_ends_as_if_never_killed(tiny_model: Path, tmp_path: Path) -> None:
    settings = {**OFTEN, "mask_tokens": 0.1}
    paths = [str(ROOT)]
    program = f"import sys; sys.path[:0] = {paths!r}\n{KILLED}"
    for last in (4, 10, 17):
        arguments = [str(tiny_model), str(tmp_path / "killed"), json.dumps(settings), str(last)]
        ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        assert ended.returncode == 9, ended.stderr
        assert max(one["step"] for one in history(tmp_path / "killed")) == last // 3 * 3
    one = recipe(tiny_model, training=settings)
    assert_same(train(one, tmp_path / "killed", ROWS), train(one, tmp_path / "whole", ROWS))


@pytest.mark.parametrize(
    "settings",
    [
        {**OFTEN},
        {**OFTEN, "mask_tokens": 0.3},
        {"checkpoint_steps": 2, "accumulation": 2, "epochs": 2.5},
        {**OFTEN, "schedule": "cosine", "warmup": 0.3, "class_weights": "balanced", "label_smoothing": 0.1},
        {**OFTEN, "train_top_layers": 1, "head_learning_rate": 1e-2},
        {"checkpoint_steps": 51, "epochs": 15},  # so long that not every step is logged
    ],
    ids=["plain", "masked", "accumulated", "scheduled", "frozen", "long"],
)
def test_resumed_equals_uninterrupted(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    one = recipe(tiny_model, training=settings)
    with crash_at(settings["checkpoint_steps"] + 2):
        train(one, tmp_path / "resumed", ROWS)
    assert_same(train(one, tmp_path / "resumed", ROWS), train(one, tmp_path / "whole", ROWS))


def test_metrics_that_a_crash_kept_back_at_a_checkpoint_are_handed_on(
    tiny_model: Path, tmp_path: Path, uninterrupted: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe(tiny_model, training=OFTEN)

    def dies(self: Progress, *_: Any, **__: Any) -> None:
        raise CrashError

    with monkeypatch.context() as during, pytest.raises(CrashError):
        during.setattr(Progress, "on_save", dies)
        train(one, tmp_path / "resumed", ROWS)
    assert_same(train(one, tmp_path / "resumed", ROWS), uninterrupted)


def test_tags_resume_too(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model, TOKENS, training=OFTEN)
    rows = split_rows(tag_rows(40))
    with crash_at(4):
        train(one, tmp_path / "resumed", rows, TAGS)
    assert_same(train(one, tmp_path / "resumed", rows, TAGS), train(one, tmp_path / "whole", rows, TAGS))


def cut(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def spoil(checkpoint: Path) -> None:
    """Other bytes, the same length: what a disk or a half-flushed page leaves."""
    file = checkpoint / "optimizer.pt"
    file.write_bytes(bytes(file.stat().st_size))


def lose(checkpoint: Path) -> None:
    (checkpoint / "rng_state.pth").unlink()


def unseal(checkpoint: Path) -> None:
    (checkpoint / "evertune-seal.json").unlink()


def cut_seal(checkpoint: Path) -> None:
    (checkpoint / "evertune-seal.json").write_text("{")


@pytest.mark.parametrize("damage", [cut, spoil, lose, unseal, cut_seal])
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(
    tiny_model: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    uninterrupted: Candidate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = recipe(tiny_model, training=OFTEN)
    with crash_at(10):
        train(one, tmp_path / "resumed", ROWS)
    checkpoints = tmp_path / "resumed" / "run" / "checkpoints"
    assert (checkpoints / "checkpoint-9").is_dir()
    damage(checkpoints / "checkpoint-9")
    resumed = train(one, tmp_path / "resumed", ROWS)
    assert "checkpoint-9 is incomplete" in caplog.text
    assert difference(resumed, uninterrupted) < 1e-6 and resumed.steps == uninterrupted.steps == STEPS


def test_without_a_whole_checkpoint_it_starts_again(tiny_model: Path, tmp_path: Path, uninterrupted: Candidate) -> None:
    one = recipe(tiny_model, training=OFTEN)
    with crash_at(4):
        train(one, tmp_path / "resumed", ROWS)
    cut(tmp_path / "resumed" / "run" / "checkpoints" / "checkpoint-3")
    assert difference(train(one, tmp_path / "resumed", ROWS), uninterrupted) < 1e-6


def never_better(patience: int) -> dict[str, Any]:
    """A rate so small that no validation after the first is better."""
    return {**OFTEN, "learning_rate": 1e-12, "early_stopping": {"patience": patience}}


def test_early_stopping_counts_on_after_a_crash(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model, training=never_better(4))
    with crash_at(10):
        train(one, tmp_path / "resumed", ROWS)
    resumed = train(one, tmp_path / "resumed", ROWS)
    assert resumed.steps == 15  # the first of five validations, and four without improvement
    assert_same(resumed, train(one, tmp_path / "whole", ROWS))


def test_a_training_that_stopped_early_is_not_gone_on_with(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe(tiny_model, training=never_better(2))
    write = bundle.write_bundle

    def crashes(*_: Any) -> str:
        raise CrashError

    monkeypatch.setattr(bundle, "write_bundle", crashes)
    with pytest.raises(CrashError):
        train(one, tmp_path / "resumed", ROWS)
    monkeypatch.setattr(bundle, "write_bundle", write)
    monkeypatch.delattr(TokenTrainer, "training_step")  # not one step more is needed
    monkeypatch.setattr("transformers.Trainer.training_step", crashes)
    resumed = train(one, tmp_path / "resumed", ROWS)
    monkeypatch.undo()
    assert_same(resumed, train(one, tmp_path / "whole", ROWS))


def test_a_finished_training_is_taken_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model)
    first = train(one, tmp_path, ROWS)
    lines = history(tmp_path)
    assert train(one, tmp_path, ROWS) == first  # its seconds too: nothing was done again
    assert history(tmp_path) == lines
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_damaged_bundle_is_made_anew(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model)
    first = train(one, tmp_path, ROWS)
    shutil.rmtree(Path(first.bundle) / "code")
    again = train(one, tmp_path, ROWS)
    assert bundle.compute_digest(Path(again.bundle)) == again.digest == first.digest
