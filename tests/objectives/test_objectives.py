"""Every objective of the table: what it encodes, learns from, predicts and measures."""

import difflib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune import objectives
from evertune.data.sources.tables import CONVERTERS
from evertune.objectives import text_classification, token_classification
from evertune.objectives.interface import complete_objective
from evertune.serving import bundle
from tests.helpers.model import TAGS, certain, recipe, split_rows, tokenizer, train
from tests.helpers.objective_samples import SAMPLES, labels_of, short

# Of these each item, a row or a word, has one label; what other objectives give is tested in files of their own.
ONE_LABEL = ("text-classification", "token-classification", "pair-classification")


@pytest.fixture(params=objectives.TABLE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=ONE_LABEL)
def labeled(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[name for name, one in SAMPLES.items() if "base" not in one])
def encoder(request: pytest.FixtureRequest) -> str:
    """What learns from an encoder, with its tokenizer; test_generated_text.py has the others."""
    return str(request.param)


@pytest.fixture
def objective(name: str) -> objectives.Objective:
    return objectives.load_objective(name)


def examples(objective: Any, sample: dict[str, Any], targets: bool = True) -> list[dict[str, Any]]:
    encoded = objective.encode(sample["inputs"], tokenizer(), objective.Options(max_length=16))
    rows = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
    ids = {label: index for index, label in enumerate(sample["names"])}
    wanted = sample["targets"] if targets else [None] * len(rows)
    return [objective.make_example(row, target, ids) for row, target in zip(rows, wanted, strict=True)]


def test_every_objective_has_a_sample_here() -> None:
    assert SAMPLES.keys() == objectives.TABLE.keys()


def test_the_parts_of_an_objective_fit_together(name: str, objective: objectives.Objective) -> None:
    assert objective.Options().type == name
    assert {*objective.INPUTS, objective.TARGET} == objective.COLUMNS.keys()
    assert set(objective.COLUMNS.values()) <= CONVERTERS.keys()
    assert set(objective.LOWER_IS_BETTER) < set(objective.METRICS)
    public = {part for part in vars(objective.module) if not part.startswith("_")}
    parts = {part for part in dir(objective) if not part.startswith("_")}
    near = {part: difflib.get_close_matches(part, parts, cutoff=0.85) for part in public - parts}
    assert {part: similar for part, similar in near.items() if similar} == {}, (
        "a part that is spelled wrong is not used"
    )


def _copy_without(*parts: str) -> ModuleType:
    """The file of text classification without some of its parts."""
    copy = ModuleType("evertune.objectives.ordinal")
    kept = {part: value for part, value in vars(text_classification).items() if part not in parts}
    vars(copy).update({part: value for part, value in kept.items() if not part.startswith("__")})
    return copy


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("decode", "`decode(logits, examples, names, conventions)`: Make a prediction of each row's logits"),
        ("METRICS", "`METRICS`: Names of the metrics, the default first"),
        ("list_labels", "`list_labels(targets)`: List every label in the targets"),
    ],
)
def test_a_missing_part_is_named_with_its_file(part: str, said: str) -> None:
    with pytest.raises(TypeError) as raised:
        complete_objective("ordinal", _copy_without(part))
    assert str(raised.value).startswith(f"evertune/objectives/ordinal.py lacks {said}")


def test_an_optional_part_has_a_default() -> None:
    made = complete_objective("ordinal", _copy_without("explain_unfit", "LOWER_IS_BETTER"))
    assert made.LOWER_IS_BETTER == () and made.explain_unfit(Path()) is None
    assert made.find_problems(["a", "b"], [None, None], None) == [None, None]
    assert not made.has_own_tokenizer and not made.checks_rows and not made.finishes_model


def test_encoded_rows_fit_the_length_and_say_what_was_cut(encoder: str) -> None:
    inputs = SAMPLES[encoder]["inputs"]
    objective = objectives.load_objective(encoder)
    encoded = objective.encode(inputs, tokenizer(), objective.Options(max_length=16))
    lengths = [len(ids) for ids in encoded["input_ids"]]
    assert {len(column) for column in encoded.values()} == {len(inputs)}
    assert max(lengths) == 16
    assert [full > length for full, length in zip(encoded["full_length"], lengths, strict=True)] == [False, False, True]
    assert {(ids[0], ids[-1]) for ids in encoded["input_ids"]} == {(2, 3)}  # [CLS], [SEP]


def test_collate_pads_to_the_longest(encoder: str) -> None:
    objective = objectives.load_objective(encoder)
    part = examples(objective, SAMPLES[encoder])
    batch = objective.collate(part, pad_id=0)
    lengths = [len(one["input_ids"]) for one in part]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    for row, one in enumerate(part):
        assert batch["input_ids"][row, : lengths[row]].tolist() == one["input_ids"]
        assert not batch["input_ids"][row, lengths[row] :].any()
    assert batch["labels"].shape[0] == len(part)
    assert "labels" not in objective.collate(examples(objective, SAMPLES[encoder], targets=False), pad_id=0)


def test_decoding_the_labels_own_logits_gives_the_labels_back(labeled: str) -> None:
    name = labeled
    objective = objectives.load_objective(labeled)
    import torch

    sample = SAMPLES[name]
    part = examples(objective, sample)
    labels = objective.collate(part, pad_id=0)["labels"]
    logits = 9.0 * torch.nn.functional.one_hot(labels.clamp(min=0), len(sample["names"]))
    predictions = objective.decode(logits, part, sample["names"], objective.find_conventions(sample["targets"]))
    assert all(one.keys() == objective.OUTPUTS.keys() for one in predictions)
    assert objective.pair_labels(sample["targets"], predictions)[0] == objective.list_labels(sample["targets"])
    assert objective.pair_labels(sample["targets"], predictions)[1] == objective.list_labels(sample["targets"])


def test_loss_is_a_sum_so_that_batches_add_up(labeled: str) -> None:
    name = labeled
    objective = objectives.load_objective(labeled)
    import torch

    part = examples(objective, SAMPLES[name])
    labels = objective.collate(part, pad_id=0)["labels"]
    logits = torch.randn((*labels.shape, len(SAMPLES[name]["names"])), generator=torch.manual_seed(1))
    for options in ({}, {"smoothing": 0.1}, {"weights": torch.tensor([0.5, 2.0, 1.0, 1.0, 3.0][: logits.shape[-1]])}):
        whole = objective.compute_loss(logits, labels, **options)
        rows = [
            objective.compute_loss(logits[row : row + 1], labels[row : row + 1], **options) for row in range(len(part))
        ]
        assert torch.allclose(whole, torch.stack(rows).sum(), atol=1e-5)


def test_perfect_predictions_have_perfect_metrics(labeled: str) -> None:
    name = labeled
    objective = objectives.load_objective(labeled)
    sample = SAMPLES[name]
    found = objective.compute_statistics(sample["targets"], certain(objective, sample["targets"], 1.0), sample["names"])
    values = objective.compute_metrics(found.sum(0, dtype="float64"), sample["names"])
    assert tuple(sorted(values)) == tuple(sorted(objective.METRICS))
    assert {metric: float(value) for metric, value in values.items()} == {
        metric: 0.0 if metric in objective.LOWER_IS_BETTER else 1.0 for metric in objective.METRICS
    }


def test_the_majority_is_the_commonest_label_alone(labeled: str) -> None:
    name = labeled
    objective = objectives.load_objective(labeled)
    sample = SAMPLES[name]
    targets = [*sample["targets"], sample["targets"][-1]]
    found = objective.predict_majority(targets)
    assert len(found) == len(targets) and all(one.keys() == objective.OUTPUTS.keys() for one in found)
    assert set(objective.pair_labels(targets, found)[1]) == {
        Counter(objective.list_labels(targets)).most_common(1)[0][0]
    }
    if name == "token-classification":  # all `O`: no entity is found
        sums = objective.compute_statistics(targets, found, sample["names"]).sum(0, dtype="float64")
        assert float(objective.compute_metrics(sums, sample["names"])["entity_f1"]) == 0.0


# An isolated interpreter, which forks a child for each bundle behind the imports of a model's requirements.
SERVING = """
import importlib, importlib.util, json, os, sys
import safetensors, tokenizers, torch, transformers.modeling_utils, transformers.models.auto.tokenization_auto
sys.modules['evertune'] = None  # any import of it fails
for line in sys.stdin:
    folder, inputs, answer = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # what is printed is no answer
        spec = importlib.util.spec_from_file_location('served', folder + '/code/__init__.py',
                                                      submodule_search_locations=[folder + '/code'])
        sys.modules['served'] = importlib.util.module_from_spec(spec)
        predictor = importlib.import_module('served.inference').Predictor(folder)
        with open(answer, 'w') as file:
            json.dump(predictor.predict(inputs), file)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Predict = Callable[[Path, list[Any], Path], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def predict_without_evertune() -> Iterator[Predict]:
    """`predict(bundle, inputs, folder)` where `evertune` cannot be imported."""
    command = [sys.executable, "-I", "-c", SERVING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None

        def predict(bundle_folder: Path, inputs: list[Any], folder: Path) -> list[dict[str, Any]]:
            answer = folder / "answer.json"
            print(json.dumps([str(bundle_folder), inputs, str(answer)]), file=server.stdin, flush=True)
            assert server.stdout.readline().strip() == "0"
            predictions: list[dict[str, Any]] = json.loads(answer.read_text())
            return predictions

        yield predict
        server.stdin.close()


@pytest.mark.slow
def test_a_bundle_predicts_without_evertune(
    name: str, tiny_model: Path, tmp_path: Path, predict_without_evertune: Predict
) -> None:
    sample = SAMPLES[name]
    base = sample.get("base", lambda _: tiny_model)(tmp_path)
    options = {"type": name, **short(name, 16), **sample.get("options", {})}
    one = recipe(base, options, folder=str(tmp_path), training={"epochs": 1})
    folder = Path(train(one, tmp_path, split_rows(sample["rows"](30)), labels_of(name)).bundle)
    served = predict_without_evertune(folder, sample["inputs"], tmp_path)
    here = bundle.load_predictor(folder).predict(sample["inputs"])
    for remote, local in zip(served, here, strict=True):
        assert remote.keys() == local.keys()
        for output, kind in objectives.load_objective(name).OUTPUTS.items():
            same = remote[output] == (pytest.approx(local[output]) if kind.startswith("number") else local[output])
            assert same, (output, remote, local)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(4, 24), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_text_keeps_its_head_or_its_head_and_tail(texts: list[str], longest: int, tail: bool) -> None:
    one = tokenizer()
    options = text_classification.Options(max_length=longest, keep="head-tail" if tail else "head")
    encoded = text_classification.encode(texts, one, options)
    for text, ids, full in zip(texts, encoded["input_ids"], encoded["full_length"], strict=True):
        plain = one(text, add_special_tokens=False)["input_ids"]
        assert full == len(plain) + 2 and len(ids) == min(full, longest)
        head = (longest - 2) // 2 if tail and full > longest else longest - 2
        kept = plain[:head] + (plain[len(plain) - (longest - 2 - head) :] if full > longest and tail else [])
        assert ids == [one.cls_token_id, *kept, one.sep_token_id]


ODD_WORDS = st.one_of(
    st.sampled_from(["", " ", "!!!", "...", "日本", "😀", "\u200b", "\x00", "a" * 60, "John", "don't"]),
    st.text(max_size=6),
)


@given(st.lists(ODD_WORDS, min_size=1, max_size=12), st.integers(4, 40))
@settings(deadline=None, max_examples=80)
def test_each_word_is_found_by_its_first_sub_word(words: list[str], longest: int) -> None:
    one = tokenizer()
    encoded = token_classification.encode([words], one, token_classification.Options(max_length=longest))
    ids = encoded["input_ids"][0]
    starts = encoded["word_starts"][0]
    assert len(ids) <= longest and len(starts) == len(words)
    position = 1
    for word, start in zip(words, starts, strict=True):
        pieces = one([word], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        seen = bool(pieces) and position < longest - 1
        assert start == (position if seen else -1)
        if seen:
            assert ids[start] == pieces[0]
        position += len(pieces)


def test_words_that_the_model_does_not_see_are_o_with_score_0() -> None:
    import torch

    words = ["", "John", "\u200b", "lives", "a" * 60, "Paris"]
    encoded = token_classification.encode([words], tokenizer(), token_classification.Options(max_length=8))
    row = {key: values[0] for key, values in encoded.items()}
    logits = torch.full((1, 8, 2), 0.0)
    logits[..., 1] = 3.0
    found = token_classification.decode(logits, [token_classification.make_example(row, None, {})], ["O", "B-PER"], {})[
        0
    ]
    assert found["tags"] == ["O", "B-PER", "O", "B-PER", "B-PER", "O"]
    assert [score > 0.9 for score in found["scores"]] == [tag != "O" for tag in found["tags"]]
    assert {score for score, tag in zip(found["scores"], found["tags"], strict=True) if tag == "O"} == {0.0}


def test_no_label_where_no_word_is_seen_and_none_on_later_sub_words() -> None:
    words = ["", "Johnx", "Paris"]
    tags = ["B-LOC", "B-PER", "B-LOC"]
    encoded = token_classification.encode([words], tokenizer(), token_classification.Options())
    row = {key: values[0] for key, values in encoded.items()}
    ids = {tag: index for index, tag in enumerate(TAGS)}
    labels = token_classification.make_example(row, tags, ids)["labels"]
    assert labels == [-100, ids["B-PER"], -100, ids["B-LOC"], -100]  # [CLS] John ##x Paris [SEP]
