"""What a training does with its settings and its rows."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evertune import training
from evertune.errors import ConfigError, DataError
from evertune.objectives import text_classification
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.training import parameters as models
from evertune.training import trainer as loop
from evertune.training.early_stopping import StoppingRule
from evertune.training.kernels import acceleration
from evertune.training.methods import losses
from evertune.training.progress import mean_loss
from tests.helpers.model import (
    LABELS,
    TAGS,
    TEXT,
    TOKENS,
    difference,
    history,
    recipe,
    split_rows,
    table,
    tag_rows,
    text_rows,
    tokens_of,
    train,
    weights,
    write_tiny_model,
    write_tiny_seq2seq,
)

ROWS = split_rows(text_rows(60))


def test_a_model_learns_and_its_bundle_predicts(tiny_model: Path, tmp_path: Path) -> None:
    done = train(recipe(tiny_model, training={"epochs": 12, "learning_rate": 1e-2, "seed": 18}), tmp_path, ROWS)
    lines = history(tmp_path)
    assert lines[0]["loss"] > 2 * [line for line in lines if "loss" in line][-1]["loss"]
    assert done.epochs == 12 and done.train_loss == pytest.approx(
        np.mean([line["loss"] for line in lines if "loss" in line])
    )
    rows = text_rows(9, start=100)
    found = bundle.load_predictor(Path(done.bundle)).predict([row["text"] for row in rows])
    assert [one["label"] for one in found] == [row["label"] for row in rows]


@pytest.mark.parametrize(("metric", "best"), [("f1_macro", max), ("ece", min)])
def test_the_best_weights_are_kept_not_the_last(tiny_model: Path, tmp_path: Path, metric: str, best: Any) -> None:
    wild = {"learning_rate": 4e-2, "schedule": "constant_with_warmup", "checkpoint_steps": 2}
    for seed in range(10):  # until the last validation is not the best
        one = recipe(tiny_model, training={**wild, "seed": seed}, evaluation={"metric": metric})
        done = train(one, tmp_path / str(seed), ROWS)
        values = [line[f"eval_{metric}"] for line in history(tmp_path / str(seed)) if "eval_loss" in line]
        if values[-1] != best(values):
            break
    assert values[-1] != best(values)
    rows = ROWS.filter([split == "validation" for split in ROWS["split"].to_pylist()])
    found = bundle.load_predictor(Path(done.bundle)).predict(rows["text"].to_pylist())
    sums = text_classification.compute_statistics(rows["label"].to_pylist(), found, LABELS).sum(0, dtype="float64")
    assert text_classification.compute_metrics(sums, LABELS)[metric] == pytest.approx(best(values), abs=1e-6)


@pytest.mark.parametrize("free", [True, False])
def test_a_model_that_computes_padding_gets_batches_by_length(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: bool
) -> None:
    made: list[bool] = []

    class Watched(loop.TokenBatches):
        def __init__(self, *given: Any, padded: bool) -> None:
            made.append(padded)
            super().__init__(*given, padded=padded)

    monkeypatch.setattr(loop, "TokenBatches", Watched)
    if not free:
        monkeypatch.setattr(acceleration, "skip_padding", lambda _: contextlib.nullcontext(False))
    train(recipe(tiny_model, training={"epochs": 1}), tmp_path, ROWS)
    assert made == [not free]


def test_the_last_steps_are_validated_too(tiny_model: Path, tmp_path: Path) -> None:
    train(recipe(tiny_model, training={"checkpoint_steps": 4}), tmp_path, ROWS)
    assert [line["step"] for line in history(tmp_path) if "eval_loss" in line] == [4, 8, 12, 16, 20, 21]


def test_without_validation_rows_the_last_weights_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model, training={"early_stopping": {"patience": 1}})
    done = train(one, tmp_path, table(text_rows(30)))
    assert done.epochs == 3 and not any("eval_loss" in line for line in history(tmp_path))


def test_early_stopping_ends_the_training(tiny_model: Path, tmp_path: Path) -> None:
    still = {"learning_rate": 1e-12, "checkpoint_steps": 2, "early_stopping": {"patience": 3}}
    done = train(recipe(tiny_model, training=still), tmp_path, ROWS)
    assert done.steps == 8
    assert done.epochs == pytest.approx(3 * 8 / 21)


@pytest.mark.parametrize(
    ("values", "falls", "delta", "stops"),
    [
        ([0.5, 0.4, 0.4], False, 0.0, True),
        ([0.5, 0.4], False, 0.0, False),
        ([0.5, 0.4, 0.51], False, 0.0, False),
        ([0.5, 0.4, 0.51], False, 0.1, True),
        ([0.5, 0.6, 0.6], True, 0.0, True),
        ([0.5, 0.6, 0.4], True, 0.0, False),
        ([0.5, 0.5, 0.5], False, 0.0, True),
        ([], False, 0.0, False),
    ],
)
def test_when_to_stop(values: list[float], falls: bool, delta: float, stops: bool) -> None:
    log = [entry for value in values for entry in ({"loss": 1.0}, {"eval_f1": value})]
    assert StoppingRule("eval_f1", falls, 2, delta).should_stop(log) is stops


def test_mean_loss_weighs_each_line_by_its_steps() -> None:
    assert mean_loss([{"loss": 1.0, "step": 2}, {"eval_loss": 9.0, "step": 2}, {"loss": 4.0, "step": 3}]) == 2.0
    assert mean_loss([]) == 0.0


SETTINGS: list[dict[str, Any]] = [
    {"seed": 18},
    {"learning_rate": 4e-3},
    {"head_learning_rate": 1e-2},
    {"schedule": "cosine"},
    {"warmup": 0.5},
    {"weight_decay": 0.5},
    {"label_smoothing": 0.2},
    {"mask_tokens": 0.2},
    {"max_grad_norm": 0.1},
    {"epochs": 2.5},
    {"tokens_per_batch": 256},
    {"accumulation": 3},
    {"class_weights": "balanced"},
    {"precision": "bf16"},
]


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(recipe(tiny_model), tmp_path_factory.mktemp("plain"), uneven())


def uneven() -> Any:
    """Many rows of one label and few of another."""
    return split_rows([*text_rows(40, LABELS[:1]), *text_rows(12, LABELS[1:])])


@pytest.mark.parametrize("change", SETTINGS, ids=lambda change: str(*change))
def test_every_setting_reaches_the_weights(
    tiny_model: Path, tmp_path: Path, plain: Any, change: dict[str, Any]
) -> None:
    assert difference(train(recipe(tiny_model, training=change), tmp_path, uneven()), plain) > 1e-5


def test_the_same_seed_gives_the_same_weights(tiny_model: Path, tmp_path: Path, plain: Any) -> None:
    assert difference(train(recipe(tiny_model), tmp_path, uneven()), plain) == 0


@pytest.mark.parametrize(
    "extra", [{}, {"label_smoothing": 0.2, "class_weights": "balanced"}], ids=["plain", "weighted"]
)
@pytest.mark.parametrize("objective", [TEXT, TOKENS], ids=["text", "tags"])
def test_accumulated_small_batches_give_the_gradient_of_one_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: dict[str, Any], extra: dict[str, Any]
) -> None:
    import torch

    def descend(model: Any, **_: Any) -> Any:
        return torch.optim.SGD(model.parameters(), lr=1.0)  # one step of it moves each weight by its gradient

    monkeypatch.setattr(models, "build_optimizer", descend)
    model = write_tiny_model(tmp_path / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    rows, labels = (text_rows(23), LABELS) if objective is TEXT else (tag_rows(23), TAGS)
    results = []
    for budget, accumulation in ((100_000, 1), (70, 100)):
        shape = {"tokens_per_batch": budget, "accumulation": accumulation, "epochs": 1, "max_grad_norm": 1e9, **extra}
        one = recipe(model, objective, training={**shape, "learning_rate": 1.0, "schedule": "constant_with_warmup"})
        results.append(train(one, tmp_path / str(budget), table(rows), labels))
    assert [one.steps for one in results] == [1, 1]
    assert difference(*results) < 1e-6
    assert results[0].train_loss == pytest.approx(results[1].train_loss, abs=1e-5)


def test_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    values = ["a"] * 7 + ["b"] * 2 + ["c"]
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=np.array(values))
    assert losses.balanced_weights(values, ["a", "b", "c"]).tolist() == pytest.approx(expected.tolist())
    assert losses.balanced_weights(["a", "b"], ["a", "b", "never"]).tolist()[2] == 1.0


def test_frozen_parameters_stay_and_the_others_move(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    base = AutoModel.from_pretrained(tiny_model).state_dict()
    for number, change in enumerate(({"freeze": ["*embeddings*", "*layer.0.*"]}, {"train_top_layers": 1})):
        tuned = weights(train(recipe(tiny_model, training=change), tmp_path / str(number), ROWS))
        for name, before in base.items():
            if "pooler" not in name:
                moved = bool((tuned[f"bert.{name}"] != before).any())
                assert moved == name.startswith("encoder.layer.1"), name


def test_the_head_alone_can_be_trained(tiny_model: Path, tmp_path: Path) -> None:
    done = [
        train(recipe(tiny_model, training={"train_top_layers": 0, "seed": seed}), tmp_path / str(seed), ROWS)
        for seed in (1, 2)
    ]
    first, second = (weights(one) for one in done)
    assert {name for name in first if (first[name] != second[name]).any()} == {"classifier.weight", "classifier.bias"}


def test_the_head_has_its_own_rate_and_norms_no_decay(tiny_model: Path) -> None:
    one = recipe(tiny_model)
    model = models.build_model(text_classification, str(tiny_model), LABELS, one.objective, 17)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = models.build_optimizer(model, 1e-4, 1e-2, 0.1).param_groups
    seen = {names[id(one)]: (group["lr"], group["weight_decay"]) for group in groups for one in group["params"]}
    assert seen.keys() == set(names.values())
    assert seen["classifier.weight"] == (1e-2, 0.1) and seen["classifier.bias"] == (1e-2, 0.0)
    assert seen["bert.encoder.layer.0.output.dense.weight"] == (1e-4, 0.1)
    assert seen["bert.encoder.layer.0.output.LayerNorm.weight"] == (1e-4, 0.0)


def test_each_layer_learns_slower_than_the_one_above(tiny_model: Path) -> None:
    model = models.build_model(text_classification, str(tiny_model), LABELS, recipe(tiny_model).objective, 17)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = models.build_optimizer(model, 1.0, 3.0, 0.1, 0.5).param_groups
    seen = {names[id(one)]: group["lr"] for group in groups for one in group["params"]}
    parts = {
        "bert.embeddings": 0.25,
        "bert.encoder.layer.0": 0.5,
        "bert.encoder.layer.1": 1.0,
        "bert.pooler": 1.0,
        "classifier": 3.0,
    }
    assert seen == {name: next(rate for part, rate in parts.items() if name.startswith(part)) for name in seen}
    groups = models.build_optimizer(model, 1.0, None, 0.1).param_groups
    assert {group["lr"] for group in groups} == {1.0}


def test_layers_are_told_apart_in_every_family(tiny_model: Path) -> None:
    import transformers

    small = {"num_labels": 2, "vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    shapes = {
        "Llama": {"intermediate_size": 32},
        "ModernBert": {"intermediate_size": 32, "pad_token_id": 0},
        "Albert": {"embedding_size": 16, "num_hidden_groups": 3, "intermediate_size": 32},
    }
    for family, shape in shapes.items():
        config = getattr(transformers, f"{family}Config")(**small, **shape)
        model = getattr(transformers, f"{family}ForTokenClassification")(config)
        rates = {group["lr"] for group in models.build_optimizer(model, 1.0, 9.0, 0.1, 0.5).param_groups}
        assert rates == {0.125, 0.25, 0.5, 1.0, 9.0}, family
    convolutions = {"embedding_size": 8, "hidden_sizes": [8, 8, 8], "depths": [1, 1, 1], "layer_type": "basic"}
    network = transformers.ResNetForImageClassification(transformers.ResNetConfig(**convolutions))
    rates_of = {name: rate for name, _, rate in models.assign_rates(network, 1.0, 9.0, 0.5)}
    assert rates_of["resnet.embedder.embedder.convolution.weight"] == 0.125 and rates_of["classifier.1.weight"] == 9.0
    assert {rate for name, rate in rates_of.items() if ".stages." in name} == {0.25, 0.5, 1.0}


def test_of_a_model_of_two_stacks_all_is_the_base_and_no_layer_stands_above_another(tmp_path: Path) -> None:
    import transformers

    two = transformers.AutoModelForSeq2SeqLM.from_config(
        transformers.AutoConfig.from_pretrained(write_tiny_seq2seq(tmp_path))
    )
    assert {rate for _, _, rate in models.assign_rates(two, 1.0, 9.0)} == {1.0}
    with pytest.raises(ConfigError, match="no single stack of layers"):
        models.assign_rates(two, 1.0, None, 0.9)


def test_a_sentence_without_a_visible_word_does_no_harm(tiny_model: Path, tmp_path: Path) -> None:
    rows = [*tag_rows(8), *({"tokens": ["\u200b"], "tags": ["O"]} for _ in range(3))]
    shape = {"tokens_per_batch": 16, "epochs": 1}  # each of them a step of its own
    assert np.isfinite(train(recipe(tiny_model, TOKENS, training=shape), tmp_path, table(rows), TAGS).train_loss)


def test_new_rows_alone_can_be_trained_on_from_the_champion(tiny_model: Path, tmp_path: Path) -> None:
    champion = train(recipe(tiny_model), tmp_path / "champion", ROWS)
    rows = table([{**row, "batch": 1 + (number >= 20)} for number, row in enumerate(text_rows(30))])
    fresh = {"train_on": "new", "start_from": "champion"}
    data = {"sources": [{"path": "rows.csv"}], "fresh": fresh}
    one = recipe(tiny_model, data=data, training={"learning_rate": 1e-12, "tokens_per_batch": 16, "epochs": 1})
    done = train(one, tmp_path, rows, champion=Path(champion.bundle), since=1)
    assert done.steps == 10
    assert difference(done, champion) < 1e-6
    with pytest.raises(DataError, match=r"no train rows newer than the champion; .* set data\.fresh\.train_on to"):
        train(one, tmp_path / "none", rows, champion=Path(champion.bundle), since=2)


def test_rows_that_are_left_out_make_another_training(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model)
    split = one.data.split.model_copy(update={"leak": "exclude"})
    other = one.model_copy(update={"data": one.data.model_copy(update={"split": split})})
    tokens = tokens_of(one, Home(tmp_path, "small"), ROWS)
    assert training.fingerprint_training(one, tokens, None) != training.fingerprint_training(other, tokens, None)
