"""A training in several processes: the same rows in every step, the same result, metrics once."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evertune import training
from evertune.config import load_recipe
from evertune.objectives import text_classification
from evertune.records import Snapshot, Tokens
from evertune.runtime import ipc as channel
from evertune.runtime.home import Home
from evertune.training.distributed import launcher, processes
from evertune.training.distributed import messages as reports
from evertune.training.distributed import process_group as sharing
from tests.helpers.model import (
    TAGS,
    TOKENS,
    difference,
    history,
    recipe,
    split_rows,
    tag_rows,
    tokens_of,
    train,
    write_steady_model,
)
from tests.helpers.paths import ROOT
from tests.helpers.process import ROWS, in_processes
from tests.helpers.server import free_port

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
HARD = {"tokens_per_batch": 40, "accumulation": 2, "class_weights": "balanced", "label_smoothing": 0.1, "epochs": 2}


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_steady_model(tmp_path_factory.mktemp("models") / "steady")


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Every metric of every step, in the order in which it was logged, once."""
    assert [(one["step"], one.keys()) for one in ours] == [(one["step"], one.keys()) for one in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=1e-4)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(
    steady: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = train(in_processes(steady, 1, **HARD), tmp_path / "alone", ROWS)
    capfd.readouterr()
    caplog.clear()
    caplog.set_level(logging.INFO)
    shared = train(in_processes(steady, 2, **HARD), tmp_path / "shared", ROWS)
    assert difference(shared, alone) < 1e-4
    assert (shared.steps, shared.epochs) == (alone.steps, alone.epochs)
    assert_same(history(tmp_path / "shared"), history(tmp_path / "alone"))
    said = [one for one in caplog.messages if re.match(r"step \d+ of", one)]
    assert len(said) == len([one for one in history(tmp_path / "alone") if "eval_loss" in one])
    assert capfd.readouterr().out == ""
    assert not (tmp_path / "shared" / "run" / "processes").exists()


@pytest.mark.slow
def test_three_processes_learn_tags_and_stop_early_as_one_does(steady: Path, tmp_path: Path) -> None:
    rows = split_rows(tag_rows(40))
    settings = {"learning_rate": 1e-12, "early_stopping": {"patience": 2}}  # no validation is better
    alone, shared = (
        train(in_processes(steady, count, TOKENS, **settings), tmp_path / str(count), rows, TAGS) for count in (1, 3)
    )
    assert shared.steps == alone.steps == 9
    assert difference(shared, alone) < 1e-6
    assert_same(history(tmp_path / "3"), history(tmp_path / "1"))


@pytest.mark.slow
def test_two_machines_learn_what_one_learns(steady: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = train(in_processes(steady, 1), tmp_path / "alone", ROWS)
    port = str(free_port())
    meet = ["--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1", "--master-port", port]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", *meet]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with subprocess.Popen(
        [*command, "-m", "evertune.training.distributed.worker"], stderr=subprocess.DEVNULL
    ) as helper:
        shared = train(in_processes(steady, 1), tmp_path / "shared", ROWS)
        assert helper.wait() == 0
    assert difference(shared, alone) < 1e-4
    assert_same(history(tmp_path / "shared"), history(tmp_path / "alone"))


@pytest.mark.parametrize("hands", [1, 2, 3, 7])
def test_every_row_is_dealt_once_and_the_tokens_evenly(hands: int) -> None:
    random = np.random.default_rng(0)
    for size in (0, 1, 5, 64):
        lengths = random.integers(1, 60, size).tolist()
        parts = sharing.partition_by_tokens(lengths, hands)
        assert sorted(place for part in parts for place in part) == list(range(size))
        loads = [sum(lengths[place] for place in part) for part in parts]
        assert max(loads) - min(loads) <= max(lengths, default=0)
    assert sharing.partition_by_tokens([3, 5, 4], 1) == [[0, 1, 2]]


def test_a_process_without_a_row_takes_part_with_one_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [{"input_ids": [1, 2, 3], "labels": 1}, {"input_ids": [1, 2], "labels": 0}]
    monkeypatch.setattr(sharing, "get_world_size", lambda: 3)
    found = []
    for rank in range(3):
        monkeypatch.setattr(sharing, "get_rank", lambda rank=rank: rank)
        found.append(sharing.collate_own_part(lambda part: text_classification.collate(part, 0))(batch))
    assert [one["labels"].tolist() for one in found] == [[1], [0], [sharing.IGNORED]]
    import torch

    logits = torch.randn(1, 2, requires_grad=True)
    for weights, smoothing in ((None, 0.0), (torch.tensor([1.0, 2.0]), 0.1)):
        loss = text_classification.compute_loss(logits, found[2]["labels"], weights, smoothing)
        loss.backward()
        assert loss.item() == 0.0 and not logits.grad.any()


@pytest.mark.parametrize(
    ("name", "logits", "labels"),
    [
        ("text-classification", (1, 3), (1,)),
        ("pair-regression", (1, 1), (1,)),
        ("multi-label", (1, 3), (1, 3)),
    ],
)
def test_no_loss_counts_a_row_without_labels(name: str, logits: Any, labels: Any) -> None:
    """A squared error would learn the number -100, a binary cross-entropy a label of -100."""
    from types import SimpleNamespace

    import torch

    from evertune.config.training import Training
    from evertune.objectives import load_objective
    from evertune.training import trainer

    task: Any = SimpleNamespace(objective=load_objective(name), weights=None)
    step_loss = trainer._build_loss(task, Training())
    drawn = torch.randn(logits, requires_grad=True)
    empty = torch.full(labels, float(sharing.IGNORED)) if name != "text-classification" else torch.tensor([-100])
    loss = step_loss(SimpleNamespace(logits=drawn), empty, 4)
    loss.backward()
    assert loss.item() == 0.0 and not drawn.grad.any()


def test_each_process_draws_masks_of_its_own_and_new_ones_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import TrainerState

    drawn = []
    for rank, step in [(0, 0), (1, 0), (2, 0), (0, 5), (1, 5)]:
        monkeypatch.setattr(sharing, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(17)
        sharing.OwnDraws(17).on_train_begin(None, TrainerState(global_step=step), None)
        drawn.append(torch.rand(4).tolist())
    torch.manual_seed(17)
    assert drawn[0] == torch.rand(4).tolist()  # a training in one process draws what it always did
    assert len(set(map(tuple, drawn))) == len(drawn)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_first_process_draws_its_bar_where_the_step_runs(
    terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from tqdm import tqdm

    sent: list[bytes] = []
    screen = channel.Screen(lambda **message: sent.append(json.dumps(message).encode()), terminal)
    for _ in tqdm(range(3), file=screen, disable=None):
        pass
    reports.relay_messages(sent, lambda *_: None)
    assert ("3/3" in capsys.readouterr().err) == terminal


def test_the_number_of_processes_retrains_nothing(tiny_model: Path, tmp_path: Path) -> None:
    one, many = (recipe(tiny_model, training={"processes": count}) for count in (1, 8))
    tokens = tokens_of(one, Home(tmp_path, one.name), ROWS)
    assert training.fingerprint_training(one, tokens, None) == training.fingerprint_training(many, tokens, None)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_order_says_the_whole_recipe(path: Path, tmp_path: Path) -> None:
    one = load_recipe(path)
    tokens = Tokens(("a.arrow", "b.arrow"), "f", Snapshot(3, "s", {"train": 2}, ("x", "y"), 1), {"train": 9}, 0)
    home = Home(tmp_path, one.name)
    rows = tmp_path / "rows.arrow"
    order = processes.TrainingOrder(one, home, tokens, rows, tmp_path / "run", "r", None, 0, logging.INFO, False)
    assert processes.TrainingOrder.from_json(order.to_json()) == order


ADDRESS = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"}
MEET = ["--master-addr", "10.0.0.1", "--master-port", "4000"]


@pytest.mark.parametrize(
    ("environment", "machines", "options"),
    [
        ({}, 1, ["--nnodes", "1", "--local-addr", "127.0.0.1"]),
        ({"WORLD_SIZE": "8"}, 1, ["--nnodes", "1", "--local-addr", "127.0.0.1"]),
        ({**ADDRESS, "WORLD_SIZE": "4"}, 1, ["--nnodes", "1", "--local-addr", "127.0.0.1"]),
        ({**ADDRESS, "WORLD_SIZE": "8", "RANK": "4"}, 2, ["--nnodes", "2", "--node-rank", "1", *MEET]),
        (
            {**ADDRESS, "WORLD_SIZE": "6", "RANK": "4", "LOCAL_WORLD_SIZE": "2"},
            3,
            ["--nnodes", "3", "--node-rank", "2", *MEET],
        ),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "0", **ADDRESS}, 2, []),  # torchrun reads them itself
        ({"PET_NNODES": "1:3"}, 3, []),
    ],
)
def test_the_rendezvous_variables_of_clusters_are_read(
    environment: dict[str, str], machines: int, options: list[str]
) -> None:
    assert launcher.count_machines(environment, 4) == machines
    assert launcher.rendezvous_options(environment, 4) == options
