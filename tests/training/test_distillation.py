"""A smaller student learns from a teacher, whose labels are matched by name and whose answers are computed once."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evertune.errors import ConfigError
from evertune.serving import bundle
from evertune.training import initial_model as start
from evertune.training.distillation import student, teacher
from tests.helpers.model import (
    LABELS,
    TAGS,
    TOKENS,
    recipe,
    split_rows,
    tag_rows,
    text_rows,
    train,
    weights,
    write_tiny_decoder,
)
from tests.helpers.objective_samples import SAMPLES, pictures
from tests.helpers.picture import RESNET, write_tiny_vision
from tests.training.test_resume import crash_at

ROWS = split_rows(text_rows(20))
SHORT = {"epochs": 1, "checkpoint_steps": 1}
ALONE = {**SHORT, "epochs": 7, "student": {"layers": 1}, "distill": {"teacher": "t", "weight": 1.0}}


def test_a_student_learns_from_a_teacher_alone_and_its_answers_are_computed_once(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    known = train(recipe(tiny_model, training={**SHORT, "epochs": 6}), tmp_path / "teacher", ROWS)
    place = Path(known.bundle)
    one = recipe(tiny_model, training=ALONE)
    with crash_at(2):
        train(one, tmp_path / "student", ROWS, LABELS[::-1], teacher=place)
    made = train(one, tmp_path / "student", ROWS, LABELS[::-1], teacher=place)
    assert caplog.text.count("computing the teacher's logits") == 1
    assert not any("layer.1" in name for name in weights(made))
    texts = ROWS["text"].to_pylist()
    ours, theirs = (bundle.load_predictor(Path(each.bundle)).predict(texts) for each in (made, known))
    assert sum(a["label"] == b["label"] for a, b in zip(ours, theirs, strict=True)) >= 15


def test_words_have_their_teacher_too(tiny_model: Path, tmp_path: Path) -> None:
    rows = split_rows(tag_rows(20))
    known = train(recipe(tiny_model, TOKENS, training=SHORT), tmp_path / "teacher", rows, TAGS)
    given = {**ALONE, "epochs": 1, "distill": {"teacher": "t", "weight": 0.5}, "r_drop": 1.0}
    made = train(recipe(tiny_model, TOKENS, training=given), tmp_path / "s", rows, TAGS, teacher=Path(known.bundle))
    assert made.train_loss > 0
    with pytest.raises(ConfigError, match="only `evertune run` and `search` support a teacher"):
        train(recipe(tiny_model, training=ALONE), tmp_path / "none", ROWS)
    with pytest.raises(ConfigError, match="it was tuned for token-classification"):
        train(recipe(tiny_model, training=ALONE), tmp_path / "other", ROWS, teacher=Path(known.bundle))


@pytest.mark.slow
def test_pictures_have_their_teacher_too(tmp_path: Path) -> None:
    def one(place: str, width: int, **training: Any) -> Any:
        (tmp_path / place).mkdir()
        base = write_tiny_vision(tmp_path / place, {**RESNET, "hidden_sizes": [width, width]})
        options = {"type": "image-classification", "size": 8, "shift": 0, "zoom": 0}
        return recipe(base, options, training={"epochs": 60, "learning_rate": 2e-2, **training})

    rows = split_rows(pictures(20))
    labels = ("bright", "dark")
    known = Path(train(one("wide", 16), tmp_path / "teacher", rows, labels).bundle)
    taught = one("small", 8, distill={"teacher": str(known), "weight": 1.0})
    start.check_recipe_fits(taught)
    made = Path(train(taught, tmp_path / "student", rows, labels[::-1], teacher=known).bundle)
    seen = rows["image"].to_pylist()
    ours, theirs = (bundle.load_predictor(each).predict(seen) for each in (made, known))
    assert {each["label"] for each in theirs} == set(labels)
    assert sum(a["label"] == b["label"] for a, b in zip(ours, theirs, strict=True)) >= 18
    larger = taught.model_copy(update={"objective": taught.objective.model_copy(update={"size": 16})})
    with pytest.raises(
        ConfigError, match=r"it was trained on images of 8 pixels a side, but objective.size is 16; set it to 8"
    ):
        start.check_recipe_fits(larger)


def test_labels_are_matched_by_name() -> None:
    places = torch.tensor(teacher._match_labels(["b", "a"], ["a", "b", "new"]))
    lines = teacher._reorder_logits(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), places, torch.tensor([0, 2]))
    assert lines[0].tolist() == [2.0, 1.0, float("-inf")]
    assert all(value != value for value in lines[1])  # of a label that the teacher does not know
    logits = torch.tensor([[2.0, 1.0, -50.0], [0.0, 0.0, 9.0]])
    assert float(teacher.distillation_loss(logits, torch.from_numpy(lines), 2.0)) == pytest.approx(0, abs=1e-4)
    assert float(teacher.distillation_loss(-logits, torch.from_numpy(lines), 2.0)) > 1
    with pytest.raises(ConfigError, match="fewer than two of the labels"):
        teacher._match_labels(["LABEL_0", "LABEL_1"], LABELS)


@pytest.mark.parametrize("kind", ["GPT2Config", "LlamaConfig", "Qwen3Config"])
def test_a_student_that_writes_says_the_same_when_it_is_read_again(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM, PreTrainedConfig

    config: PreTrainedConfig = getattr(transformers, kind)(
        vocab_size=60,
        max_position_embeddings=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **({} if kind == "GPT2Config" else {"num_key_value_heads": 2, "head_dim": 8}),
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    student.shrink_model(model, 2)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    given = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    said = [one.generate(**given, max_new_tokens=6, do_sample=False).tolist() for one in (model, again)]
    assert said[0] == said[1] and len(said[0][0]) > 4


@pytest.mark.parametrize(("name", "more"), [("causal-lm", {"continued": 1.0}), ("chat", {"answered": 1.0})])
def test_a_student_that_writes_is_validated_while_it_learns(tmp_path: Path, name: str, more: dict[str, float]) -> None:
    base = write_tiny_decoder(tmp_path)
    config = transformers.AutoConfig.from_pretrained(base, n_layer=4)
    config.save_pretrained(base)
    one = recipe(
        base,
        {"type": name, "max_length": 48, "max_new_tokens": 4, **more},
        training={**SHORT, "tokens_per_batch": 512, "student": {"layers": 2}},
    )
    made = train(one, tmp_path / "made", split_rows(SAMPLES[name]["rows"](10)), ())
    assert sum(".attn.c_proj.weight" in name for name in weights(made)) == 2
    assert bundle.load_predictor(Path(made.bundle)).predict(["my card was lost"])


@pytest.mark.parametrize(("layers", "kept", "places"), [(6, 3, [1, 3, 5]), (12, 4, [2, 5, 8, 11]), (2, 2, [0, 1])])
def test_a_student_has_layers_from_all_over_its_base(layers: int, kept: int, places: list[int]) -> None:
    assert student.choose_layers(layers, kept) == places
    with pytest.raises(ConfigError, match=rf"training.student.layers: {layers + 1}, but the base model has {layers}"):
        student.choose_layers(layers, layers + 1)
