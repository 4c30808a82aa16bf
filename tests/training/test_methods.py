"""Fine-tuning by each method: what it trains, that its bundle answers as the trained model, merged and apart."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evertune.compression import variants
from evertune.config.methods import METHODS
from evertune.errors import ConfigError, TrainingError
from evertune.models import base as base_models
from evertune.objectives import TABLE, load_objective, text_classification, token_classification
from evertune.runtime.files import read_json
from evertune.serving import bundle
from evertune.serving.portable import adapters, base_files
from evertune.training import initial_model as start
from evertune.training import kernels
from evertune.training import parameters as models
from tests.helpers.model import (
    LABELS,
    recipe,
    split_rows,
    text_rows,
    train,
    weights,
    write_tiny_decoder,
    write_tiny_model,
    write_tiny_seq2seq,
)
from tests.helpers.objective_samples import SAMPLES

TUNED = ["lora", "dora", "adalora", "ia3"]
VIRTUAL = ["prefix", "prompt", "p-tuning"]
INPUTS = (text_classification, token_classification)
TEXTS = [row["text"] for row in text_rows(9)]


def method(name: str, **options: Any) -> dict[str, Any]:
    return {"type": name, **options}


def attached(base: Path, objective: Any, name: str) -> tuple[Any, Any]:
    model = models.build_model(objective, str(base), LABELS, objective.Options(max_length=32), 5)
    made = adapters.attach_adapter(model, METHODS[name]().model_dump(), "base")
    with torch.no_grad():  # as if it had learned: what starts as nothing changes nothing
        for one in model.parameters():
            if one.requires_grad:
                one.add_(0.1 * torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())))
    return model.eval(), made


def batch(objective: Any) -> dict[str, Any]:
    rows = [{"input_ids": [2, *range(20, 20 + length), 3], "word_starts": [1]} for length in (3, 9, 1, 5)]
    made: dict[str, Any] = objective.collate(rows, 0)
    return made


def logits(model: Any, given: dict[str, Any]) -> Any:
    """Of the rows, or of their real tokens."""
    with torch.no_grad():
        found = model(**given).logits
    return found if found.ndim == 2 else found[given["attention_mask"] == 1]


@pytest.mark.parametrize("objective", [text_classification, token_classification])
@pytest.mark.parametrize("name", [*TUNED, *VIRTUAL])
def test_the_kernels_compute_what_the_model_with_its_method_computes(
    tiny_model: Path, name: str, objective: Any
) -> None:
    model, made = attached(tiny_model, objective, name)
    given = batch(objective)
    wanted = logits(model, given)
    rows = [
        {name: one[row : row + 1, :length] for name, one in given.items()} for row, length in enumerate((5, 11, 3, 7))
    ]
    alone = torch.cat([logits(model, row) for row in rows])
    torch.testing.assert_close(alone, wanted, atol=1e-5, rtol=0)  # padding changes no row
    with kernels.accelerate_training(model, "fp32", torch.arange(40)) as free:
        assert free == (name in TUNED)
        torch.testing.assert_close(logits(model, given), wanted, atol=1e-5, rtol=0)
        low = model.train()
        with torch.autocast("cpu", torch.bfloat16):
            low(**given).logits.square().sum().backward()
        used = [one for one in model.parameters() if one.requires_grad]
        assert all(one.grad is not None and one.grad.isfinite().all() for one in used)
    torch.testing.assert_close(logits(model.eval(), given), wanted, atol=0, rtol=0)
    if made is not None:
        torch.testing.assert_close(logits(made.merge_and_unload(), given), wanted, atol=1e-4, rtol=0)


def test_the_head_and_the_method_alone_are_trained(tiny_model: Path) -> None:
    for name in METHODS:
        model, _ = attached(tiny_model, text_classification, name)
        free = {one for one, parameter in model.named_parameters() if parameter.requires_grad}
        words = (
            "lora_",
            "ia3_",
            "virtual_tokens",
            "classifier.modules_to_save",
            "classifier.weight",
            "classifier.bias",
        )
        assert [one for one in free if not any(word in one for word in words)] == [], name
        assert any("classifier" in one for one in free) and len(free) > 2, name


@pytest.mark.parametrize("name", [*TUNED, *VIRTUAL])
def test_an_adapter_that_is_saved_apart_comes_back(tiny_model: Path, tmp_path: Path, name: str) -> None:
    for objective in INPUTS:
        model, made = attached(tiny_model, objective, name)
        place = tmp_path / objective.__name__
        start.UnmergedAdapter(model, made).save_pretrained(place)
        assert not (place / "model.safetensors").exists()
        again = models.build_model(objective, str(tiny_model), LABELS, objective.Options(max_length=32), 6)
        adapters.load(again, METHODS[name]().model_dump(), place)
        torch.testing.assert_close(
            logits(again.eval(), batch(objective)), logits(model, batch(objective)), atol=0, rtol=0
        )


@pytest.mark.parametrize("name", ["lora", "adalora", "prompt"])
def test_a_bundle_answers_as_its_model_was_trained(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """The one that stays apart and the one that is merged are of one training."""
    made = []
    for merge in (False, True) if name in TUNED else (None,):
        given = method(name) if merge is None else method(name, merge=merge)
        one = recipe(tiny_model, training={"method": given, "epochs": 2, "learning_rate": 2e-2})
        made.append(train(one, tmp_path / str(merge), split_rows(text_rows(40))))
    card = bundle.read_card(Path(made[0].bundle))
    assert card["adapter"]["base"] == str(tiny_model) and card["adapter"]["method"]["type"] == name
    files = {file.name for file in (Path(made[0].bundle) / "model").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    answers = [bundle.load_predictor(Path(one.bundle)).predict(TEXTS) for one in made]
    assert all(0 < one["score"] < 1 for one in answers[0])
    with pytest.raises(ConfigError, match="an adapter without its base; train one with `merge: true`"):
        variants.write_variant(Path(made[0].bundle), tmp_path / "small", "int8", 0.5)
    if name in TUNED:
        assert "adapter" not in bundle.read_card(Path(made[1].bundle)) and made[0].train_loss == made[1].train_loss
        assert [one["label"] for one in answers[0]] == [one["label"] for one in answers[1]]
        assert [one["score"] for one in answers[0]] == pytest.approx([one["score"] for one in answers[1]], abs=1e-4)


def test_an_adapter_takes_no_other_base_and_says_when_it_finds_none(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    one = recipe(base, training={"method": method("lora", merge=False), "epochs": 1})
    folder = Path(train(one, tmp_path / "made", split_rows(text_rows(30))).bundle)
    wanted = bundle.load_predictor(folder).predict(["my card was lost"])
    write_tiny_model(base, initializer_range=0.03)
    with pytest.raises(TrainingError, match=r"weights at .* differ from those that it was trained on"):
        bundle.load_predictor(folder)
    shutil.rmtree(base)
    with pytest.raises(
        TrainingError, match=r"adapter needs the base model .*, which is not here .* set EVERTUNE_BASE_MODEL"
    ):
        bundle.load_predictor(folder)
    monkeypatch.setenv(base_files.OVERRIDE, str(tiny_model))
    assert bundle.load_predictor(folder).predict(["my card was lost"]) == wanted
    config = read_json(folder / "model" / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(base)


def test_a_rank_that_is_taken_is_taken_from_the_average_too(tiny_model: Path, tmp_path: Path) -> None:
    given = method("adalora", rank=2, initial_rank=4, merge=False)
    settings = {"method": given, "epochs": 10, "ema": 0.9, "checkpoint_steps": 100, "tokens_per_batch": 512}
    made = train(recipe(tiny_model, training=settings), tmp_path, split_rows(text_rows(20)))
    values = [one for name, one in weights(made).items() if "lora_E" in name]
    left = sum(int((one != 0).sum()) for one in values)
    all_ = sum(one.numel() for one in values)
    assert len(values) == 12 and all_ == 4 * len(values) and left == all_ / 2


@pytest.mark.parametrize(
    ("name", "write", "kind"),
    [("chat", write_tiny_decoder, "AutoModelForCausalLM"), ("seq2seq", write_tiny_seq2seq, "AutoModelForSeq2SeqLM")],
)
def test_a_model_that_writes_answers_the_same_with_its_adapter_merged_or_apart(
    name: str, write: Any, kind: str, tmp_path: Path
) -> None:
    base = write(tmp_path)
    said = []
    options = {"type": name, "max_length": 48, "max_new_tokens": 4}
    with pytest.raises(ConfigError, match=r"needs the weights of its base, and .* has none"):
        base_models.check_fit(recipe(base, options, training={"method": method("lora", merge=False)}))
    config = transformers.AutoConfig.from_pretrained(base)
    getattr(transformers, kind).from_config(config).save_pretrained(base)
    for merge in (False, True):
        given = {"method": method("lora", merge=merge), "epochs": 1, "learning_rate": 5e-2}
        one = recipe(base, options, training=given)
        made = train(one, tmp_path / str(merge), split_rows(SAMPLES[name]["rows"](20)), ())
        said.append(bundle.load_predictor(Path(made.bundle)).predict(["my card was lost", "money back"]))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lorra", "training.method: unknown value 'lorra'; did you mean lora?"),
        ({"type": "lora", "rnk": 4}, "training.method.rnk: unknown key; did you mean rank?"),
        ({"type": "lora", "rank": 0}, "training.method.rank: Input should be greater than or equal to 1"),
        ({"rank": 4}, "training.method: cannot tell its kind; add type"),
        ({"type": "full", "rank": 4}, "training.method: `full` has no options"),
        ({"type": "adalora", "rank": 16}, "training.method: rank: 16 is above initial_rank 12"),
        ({"type": "lora", "targets": 3}, "training.method.targets: must be `all-linear`, or a list"),
        ({"type": "lora", "targets": "nothing*"}, "targets: 'nothing*' matches no linear layer of the base"),
        ({"type": "prompt", "virtual_tokens": 60}, "max_length: 32 and 60 of training.method is more than the 64"),
    ],
)
def test_a_method_that_does_not_fit_is_said_by_check(evertune: Any, tiny_recipe: Any, given: Any, message: str) -> None:
    done = evertune("check", tiny_recipe(training={"method": given}))
    assert done.status == 2 and message in done.err


def test_every_objective_takes_an_adapter_and_one_that_keeps_rows_no_bare_one(tiny_model: Path) -> None:
    for name in [one for one in TABLE if "base" not in SAMPLES[one]]:  # what learns from an encoder
        options = {"type": name, "max_length": 32}
        start.check_recipe_fits(recipe(tiny_model, options, training={"method": "lora"}))
        if load_objective(name).finishes_model:
            with pytest.raises(ValueError, match="set `merge` to true"):
                recipe(tiny_model, options, training={"method": method("lora", merge=False)})


def test_a_pretrained_output_is_no_head(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    for kind in (AutoModelForMaskedLM, AutoModelForCausalLM):
        assert adapters.find_heads(kind.from_pretrained(tiny_model)) == []


@pytest.mark.parametrize(
    ("training", "objective", "message"),
    [
        ({"method": "prompt"}, {"pooling": "model"}, "would read the state of a virtual token"),
        (
            {"method": "prefix"},
            {"type": "multi-label"},
            "prefix works for text-classification and token-classification",
        ),
        ({"method": "p-tuning", "train_top_layers": 1}, {}, "p-tuning adapts all layers"),
        ({"method": "adalora", "freeze": ["*layer.0.*"]}, {}, "select them with `targets`"),
    ],
)
def test_what_does_not_go_together_is_said(
    tiny_model: Path, training: dict[str, Any], objective: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"training\.method") as raised:
        recipe(tiny_model, {"type": "text-classification", "max_length": 32, **objective}, training=training)
    assert message in str(raised.value)
