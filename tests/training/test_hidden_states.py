"""A student learns its teacher's hidden states, of real tokens alone, whatever the batch; a base model teaches too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from evertune.config.losses import READING, Distill
from evertune.errors import ConfigError
from evertune.models import teachers
from evertune.objectives import text_classification
from evertune.serving import bundle
from evertune.training.distillation import hidden_states as states
from evertune.training.kernels.unpadded import skip_padding
from tests.helpers.model import (
    LABELS,
    TEXT,
    difference,
    recipe,
    split_rows,
    table,
    text_rows,
    tokenizer,
    train,
    weights,
    write_steady_model,
    write_tiny_model,
)
from tests.helpers.objective_samples import SAMPLES, labels_of
from tests.training.test_losses import _thirds
from tests.training.test_resume import assert_same, crash_at

ROWS = split_rows(text_rows(20))
SHORT = {"checkpoint_steps": 2, "epochs": 2, "learning_rate": 2e-3, "student": {"layers": 1}}
BATCH = text_classification.collate([{"input_ids": [2, *range(20, 20 + length), 3]} for length in (3, 9, 1, 5)], 0)


def taught(teacher: Path | str, **rule: Any) -> dict[str, Any]:
    return {**SHORT, "distill": {"teacher": str(teacher), "weight": 0, "hidden": 1.0, **rule}}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that is wider than the tiny one, and has a layer more."""
    return write_tiny_model(tmp_path_factory.mktemp("wide"), hidden_size=48, num_hidden_layers=3)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_steady_model(tmp_path_factory.mktemp("steady"))


def apart(model: Any, place: Path, **rule: Any) -> float:
    with states.attach_teacher(model, place, Distill(teacher="t", hidden=1.0, **rule)) as learned:
        assert learned is not None
        with torch.no_grad(), learned.watch_student():
            model(**BATCH)
        return float(learned.sum_distances().detach())


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_states_are_those_of_real_tokens_at_the_layers_named(steady: Path, distance: str) -> None:
    model = text_classification.build_model(steady, LABELS, text_classification.Options()).eval()
    other = write_steady_model(steady / "other")
    teacher = states.load_encoder(other)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.1)
        teacher.save_pretrained(other)
        own, said = (one(**BATCH, output_hidden_states=True).hidden_states for one in (model.base_model, teacher))
    real = BATCH["attention_mask"] == 1
    total = 0.0
    for ours, theirs in ((1, 2), (2, 1)):
        a = own[ours][real]
        b = said[theirs][real]
        each = (a - b).square().mean(-1) if distance == "mse" else 1 - torch.cosine_similarity(a, b, dim=-1)
        total += float(each.sum()) / 2
    asked = {"distance": distance, "layers": {1: 2, 2: 1}}
    assert apart(model, other, **asked) == pytest.approx(total, rel=1e-3)
    with skip_padding(model) as free:
        assert free
        assert apart(model, other, **asked) == pytest.approx(total, rel=1e-3)
    assert not hasattr(model, states.MAPS) and not model.base_model._forward_pre_hooks


def test_pieces_change_nothing_of_what_states_teach(steady: Path, wide: Path, tmp_path: Path) -> None:
    settings = {**taught(wide), "accumulation": 2}
    whole = train(recipe(steady, training=settings), tmp_path / "whole", ROWS, teacher=wide)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evertune.training.micro_batches.split_batch", _thirds)
        cut = train(recipe(steady, training=settings), tmp_path / "cut", ROWS, teacher=wide)
    assert difference(whole, cut) < 1e-4


@pytest.mark.parametrize("rule", [{"type": "fgm", "epsilon": 1e-9}, {"type": "freelb", "epsilon": 1e-9, "steps": 3}])
def test_an_adversary_weighs_the_states_no_more_than_the_labels(
    steady: Path, wide: Path, tmp_path: Path, rule: dict[str, Any]
) -> None:
    settings = {**taught(wide), "max_grad_norm": 1e6}
    plain = train(recipe(steady, training=settings), tmp_path / "plain", ROWS, teacher=wide)
    attacked = train(
        recipe(steady, training={**settings, "adversarial": rule}), tmp_path / "attacked", ROWS, teacher=wide
    )
    assert difference(plain, attacked) < 1e-5


def test_resumed_equals_uninterrupted_and_the_map_is_not_in_the_bundle(
    tiny_model: Path, wide: Path, tmp_path: Path
) -> None:
    known = train(
        recipe(wide, training={**SHORT, "student": None}, evaluation={"precision": "bf16"}), tmp_path / "teacher", ROWS
    )
    place = Path(known.bundle)
    one = recipe(tiny_model, training={**taught(place, weight=0.5), "ema": 0.9, "r_drop": 1.0})
    with crash_at(3):
        train(one, tmp_path / "resumed", ROWS, teacher=place)
    whole = train(one, tmp_path / "whole", ROWS, teacher=place)
    assert_same(train(one, tmp_path / "resumed", ROWS, teacher=place), whole)
    assert whole.steps > 3
    assert not any(states.MAPS in name for name in weights(whole))
    bare = recipe(tiny_model, training={**taught(place, weight=0.5, hidden=0), "ema": 0.9, "r_drop": 1.0})
    assert difference(train(bare, tmp_path / "bare", ROWS, teacher=place), whole) > 1e-3


def test_a_student_comes_nearer_to_a_base_model_that_teaches_it(tiny_model: Path, tmp_path: Path) -> None:
    settings = {**taught(tiny_model, hidden=100.0), "epochs": 6, "learning_rate": 5e-3}
    made = train(recipe(tiny_model, training=settings), tmp_path / "taught", ROWS, teacher=tiny_model)
    alone = train(recipe(tiny_model, training={**settings, "distill": None}), tmp_path / "alone", ROWS)
    near, far = (apart(bundle.load_predictor(Path(one.bundle)).model, tiny_model) for one in (made, alone))
    assert near < far / 2


@pytest.mark.parametrize("name", READING)
def test_whatever_reads_can_be_taught(tiny_model: Path, tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    given = {"type": name, "max_length": 32, **sample.get("options", {})}
    settings = {**taught(tiny_model), "epochs": 1, "student": None}
    rows = table([{**row, "split": "train" if n else "validation"} for n, row in enumerate(sample["rows"](6))])
    made = train(recipe(tiny_model, given, training=settings), tmp_path, rows, labels_of(name), teacher=tiny_model)
    assert made.train_loss > 0


def test_what_a_base_model_cannot_teach_is_said_by_check(
    tmp_path: Path, wide: Path, tiny_recipe: Any, evertune: Any
) -> None:
    def said(**training: Any) -> str:
        done = evertune("check", tiny_recipe(training={"epochs": 1, **training}))
        assert done.status in (0, 2), done.err
        return str(done.err) if done.status else ""

    assert "without a head for the labels" in said(distill={"teacher": str(wide)})
    assert said(distill={"teacher": str(wide), "weight": 0, "hidden": 1.0}) == ""
    strange = write_tiny_model(tmp_path / "strange")
    other = tokenizer()
    other.add_tokens(["refunded"])
    other.save_pretrained(strange)
    assert "its vocabulary differs from base_model's" in said(
        distill={"teacher": str(strange), "weight": 0, "hidden": 1.0}
    )
    assert "no model found" in said(distill={"teacher": "./nowhere", "weight": 0, "hidden": 1.0})
    assert "training.student.layers: 9" in said(student={"layers": 9})


def test_layers_that_are_not_there_are_said(tiny_model: Path, wide: Path) -> None:
    model = text_classification.build_model(wide, LABELS, text_classification.Options())
    with pytest.raises(ConfigError, match="the student has 3 layers, its teacher 2; name pairs"):
        apart(model, tiny_model)
    with pytest.raises(ConfigError, match="the student has 3 layers, its teacher 2; layers are numbered from 1"):
        apart(model, tiny_model, layers={1: 3})
    assert apart(model, tiny_model, layers={3: 2}) > 0


@pytest.mark.parametrize(
    ("objective", "training", "message"),
    [
        (TEXT, taught("t", hidden=0), "nothing is learned from the teacher"),
        (TEXT, {"distill": {"teacher": "t", "layers": {1: 2}}}, "has no effect without `hidden`"),
        (TEXT, {**taught("t"), "student": None, "method": "p-tuning"}, "the teacher has no virtual tokens"),
        (TEXT, {**taught("t"), "compile": True}, "set compile to false"),
        ({"type": "masked-lm"}, taught("t", weight=0.5), "masked-lm does not predict one label.*set weight to 0"),
        ({"type": "causal-lm"}, taught("t"), "causal-lm does not read texts"),
    ],
)
def test_what_does_not_fit_together_is_said(objective: Any, training: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(Path("base"), objective, training=training)


def test_a_teacher_by_its_place(tiny_model: Path, wide: Path, tmp_path: Path) -> None:
    own = recipe(tiny_model, training={"distill": {"teacher": "champion"}})
    assert (teachers.locate_teacher(own), teachers.fingerprint_teacher(own)) == (None, None)
    other = recipe(tiny_model, training=taught(wide))
    assert teachers.locate_teacher(other) == wide
    seen = teachers.fingerprint_teacher(other)
    assert seen is not None and seen != teachers.fingerprint_teacher(recipe(tiny_model, training=taught(tiny_model)))
    with pytest.raises(ConfigError, match=r"training.distill.teacher: champion:nobody: no champion of 'nobody'"):
        teachers.locate_teacher(recipe(tiny_model, training=taught("champion:nobody")))
