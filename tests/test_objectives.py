"""Every objective of the table: what it encodes, learns from, predicts and measures."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_helpers import LABELS, TAGS, recipe, split_rows, tag_rows, text_rows, tokenizer, train

from evertune import bundle, objectives
from evertune.objectives import scoring, text_classification, token_classification

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
# Inputs, targets and labels of an objective, rows that teach it, and their labels: a new objective needs a line here.
SAMPLES: dict[str, dict[str, Any]] = {
    "text-classification": {
        "inputs": ["my card was lost", "", "when " * 40], "targets": ["card", "refund", "delivery"], "names": LABELS,
        "rows": text_rows(30), "labels": LABELS,
    },
    "token-classification": {
        "inputs": [["John", "lives", "in", "Paris"], ["Paris"], ["the"] * 40],
        "targets": [["B-PER", "O", "O", "B-LOC"], ["B-LOC"], ["O"] * 40], "names": NAMES,
        "rows": tag_rows(30), "labels": TAGS,
    },
}  # fmt: skip


@pytest.fixture(params=objectives.TABLE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objective(name: str) -> ModuleType:
    return objectives.module(name)


def examples(objective: Any, sample: dict[str, Any], targets: bool = True) -> list[dict[str, Any]]:
    encoded = objective.encode(sample["inputs"], tokenizer(), objective.Options(max_length=16))
    rows = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
    ids = {label: index for index, label in enumerate(sample["names"])}
    wanted = sample["targets"] if targets else [None] * len(rows)
    return [objective.example(row, target, ids) for row, target in zip(rows, wanted, strict=True)]


def certain(objective: Any, targets: Sequence[Any], score: float = 0.9) -> list[dict[str, Any]]:
    """Predictions that are the targets, each with the same score."""
    made = []
    for target in targets:
        one = {"string": target, "strings": list(target), "number": score, "numbers": [score] * len(target)}
        made.append({output: one[kind] for output, kind in objective.OUTPUTS.items()})
    return made


def test_every_objective_has_a_sample_here() -> None:
    assert SAMPLES.keys() == objectives.TABLE.keys()


def test_an_objective_offers_all_that_the_table_promises(name: str, objective: ModuleType) -> None:
    assert objective.Options().type == name
    assert len(objective.COLUMNS) == 2 and set(objective.COLUMNS.values()) <= {"string", "strings"}
    assert set(objective.LOWER_IS_BETTER) < set(objective.METRICS)
    stated = [line.split("`")[1].split("(")[0] for line in (objectives.__doc__ or "").splitlines() if line[:3] == "- `"]
    assert "encode" in stated and [one for one in stated if not hasattr(objective, one)] == []


def test_encoded_rows_fit_the_length_and_say_what_was_cut(name: str, objective: ModuleType) -> None:
    inputs = SAMPLES[name]["inputs"]
    encoded = objective.encode(inputs, tokenizer(), objective.Options(max_length=16))
    lengths = [len(ids) for ids in encoded["input_ids"]]
    assert {len(column) for column in encoded.values()} == {len(inputs)}
    assert max(lengths) == 16
    assert [full > length for full, length in zip(encoded["full_length"], lengths, strict=True)] == [False, False, True]
    assert {(ids[0], ids[-1]) for ids in encoded["input_ids"]} == {(2, 3)}  # [CLS], [SEP]


def test_collate_pads_to_the_longest(name: str, objective: ModuleType) -> None:
    part = examples(objective, SAMPLES[name])
    batch = objective.collate(part, pad_id=0)
    lengths = [len(one["input_ids"]) for one in part]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    for row, one in enumerate(part):
        assert batch["input_ids"][row, : lengths[row]].tolist() == one["input_ids"]
        assert not batch["input_ids"][row, lengths[row] :].any()
    assert batch["labels"].shape[0] == len(part)
    assert "labels" not in objective.collate(examples(objective, SAMPLES[name], targets=False), pad_id=0)


def test_decoding_the_labels_own_logits_gives_the_labels_back(name: str, objective: ModuleType) -> None:
    import torch

    sample = SAMPLES[name]
    part = examples(objective, sample)
    labels = objective.collate(part, pad_id=0)["labels"]
    logits = 9.0 * torch.nn.functional.one_hot(labels.clamp(min=0), len(sample["names"]))
    predictions = objective.decode(logits, part, sample["names"], objective.conventions(sample["targets"]))
    assert all(one.keys() == objective.OUTPUTS.keys() for one in predictions)
    assert objective.pairs(sample["targets"], predictions)[0] == objective.label_values(sample["targets"])
    assert objective.pairs(sample["targets"], predictions)[1] == objective.label_values(sample["targets"])


def test_loss_is_a_sum_so_that_batches_add_up(name: str, objective: ModuleType) -> None:
    import torch

    part = examples(objective, SAMPLES[name])
    labels = objective.collate(part, pad_id=0)["labels"]
    logits = torch.randn((*labels.shape, len(SAMPLES[name]["names"])), generator=torch.manual_seed(1))
    for options in ({}, {"smoothing": 0.1}, {"weights": torch.tensor([0.5, 2.0, 1.0, 1.0, 3.0][: logits.shape[-1]])}):
        whole = objective.loss(logits, labels, **options)
        rows = [objective.loss(logits[row : row + 1], labels[row : row + 1], **options) for row in range(len(part))]
        assert torch.allclose(whole, torch.stack(rows).sum(), atol=1e-5)


def test_perfect_predictions_have_perfect_metrics(name: str, objective: ModuleType) -> None:
    sample = SAMPLES[name]
    found = objective.statistics(sample["targets"], certain(objective, sample["targets"], 1.0), sample["names"])
    values = objective.metrics(found.sum(0, dtype="float64"), sample["names"])
    assert tuple(sorted(values)) == tuple(sorted(objective.METRICS))
    assert {metric: float(value) for metric, value in values.items()} == {
        metric: 0.0 if metric in objective.LOWER_IS_BETTER else 1.0 for metric in objective.METRICS
    }


def test_the_majority_is_the_commonest_label_alone(name: str, objective: ModuleType) -> None:
    sample = SAMPLES[name]
    targets = [*sample["targets"], sample["targets"][-1]]
    found = objective.majority(targets)
    assert len(found) == len(targets) and all(one.keys() == objective.OUTPUTS.keys() for one in found)
    assert set(objective.pairs(targets, found)[1]) == {Counter(objective.label_values(targets)).most_common(1)[0][0]}
    if name == "token-classification":  # all `O`: no entity is found
        sums = objective.statistics(targets, found, sample["names"]).sum(0, dtype="float64")
        assert float(objective.metrics(sums, sample["names"])["entity_f1"]) == 0.0


@pytest.mark.slow
def test_a_bundle_predicts_without_evertune(name: str, tiny_model: Path, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    one = recipe(tiny_model, {"type": name, "max_length": 16}, training={"epochs": 1})
    folder = Path(train(one, tmp_path, split_rows(sample["rows"]), sample["labels"]).bundle)
    program = (
        "import importlib, importlib.util, json, sys\n"
        "sys.modules['evertune'] = None  # any import of it fails\n"
        "folder, inputs = sys.argv[1], json.loads(sys.argv[2])\n"
        "spec = importlib.util.spec_from_file_location('served', folder + '/code/__init__.py',\n"
        "                                              submodule_search_locations=[folder + '/code'])\n"
        "sys.modules['served'] = importlib.util.module_from_spec(spec)\n"
        "predictor = importlib.import_module('served.inference').Predictor(folder)\n"
        "print(json.dumps(predictor.predict(inputs)))\n"
    )
    command = [sys.executable, "-I", "-c", program, str(folder), json.dumps(sample["inputs"])]
    served = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    here = bundle.predictor(folder).predict(sample["inputs"])
    for remote, local in zip(served, here, strict=True):
        assert remote.keys() == local.keys()
        for output, kind in objectives.module(name).OUTPUTS.items():
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
    ids, starts = encoded["input_ids"][0], encoded["word_starts"][0]
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
    found = token_classification.decode(logits, [token_classification.example(row, None, {})], ["O", "B-PER"], {})[0]
    assert found["tags"] == ["O", "B-PER", "O", "B-PER", "B-PER", "O"]
    assert [score > 0.9 for score in found["scores"]] == [tag != "O" for tag in found["tags"]]
    assert {score for score, tag in zip(found["scores"], found["tags"], strict=True) if tag == "O"} == {0.0}


def test_no_label_where_no_word_is_seen_and_none_on_later_sub_words() -> None:
    words, tags = ["", "Johnx", "Paris"], ["B-LOC", "B-PER", "B-LOC"]
    encoded = token_classification.encode([words], tokenizer(), token_classification.Options())
    row = {key: values[0] for key, values in encoded.items()}
    ids = {tag: index for index, tag in enumerate(TAGS)}
    labels = token_classification.example(row, tags, ids)["labels"]
    assert labels == [-100, ids["B-PER"], -100, ids["B-LOC"], -100]  # [CLS] John ##x Paris [SEP]


SCORES = st.floats(0, 1, width=32)
LABEL_ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), SCORES), min_size=1, max_size=40)


@given(LABEL_ROWS)
@settings(deadline=None)
def test_label_metrics_are_scikit_learns(rows: list[tuple[str, str, float]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    true, guess, scores = (list(column) for column in zip(*rows, strict=True))
    predictions = [{"label": label, "score": score} for label, score in zip(guess, scores, strict=True)]
    sums = text_classification.statistics(true, predictions, "abcd").sum(0, dtype="float64")
    values = text_classification.metrics(sums, "abcd")
    assert values["accuracy"] == pytest.approx(accuracy_score(true, guess))
    for average in ("macro", "micro", "weighted"):
        assert values[f"f1_{average}"] == pytest.approx(f1_score(true, guess, average=average, zero_division=0))
    precision, recall, _, _ = precision_recall_fscore_support(true, guess, average="macro", zero_division=0)
    assert (values["precision_macro"], values["recall_macro"]) == (pytest.approx(precision), pytest.approx(recall))
    table = text_classification.report(sums, "abcd")["per_class"]
    expected = precision_recall_fscore_support(true, guess, labels=list("abcd"), zero_division=0)
    for label, *figures in zip("abcd", *expected, strict=True):
        assert list(table[label].values()) == pytest.approx([float(figure) for figure in figures])


@given(LABEL_ROWS)
@settings(deadline=None)
def test_calibration_error_is_that_of_a_plain_loop(rows: list[tuple[str, str, float]]) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for true, guess, score in rows:
        bins.setdefault(min(int(score * scoring.BINS), scoring.BINS - 1), []).append((score, true == guess))
    expected = sum(
        len(one) / len(rows) * abs(np.mean([score for score, _ in one]) - np.mean([hit for _, hit in one]))
        for one in bins.values()
    )
    predictions = [{"label": guess, "score": score} for _, guess, score in rows]
    sums = text_classification.statistics([true for true, _, _ in rows], predictions, "abcd").sum(0, dtype="float64")
    assert text_classification.metrics(sums, "abcd")["ece"] == pytest.approx(expected, abs=1e-6)
    curve = text_classification.report(sums, "abcd")["calibration"]
    assert sum(one["rows"] for one in curve) == len(rows) and len(curve) == len(bins)


TAG_NAMES = ("O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC")))


def sentences(tags: Sequence[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.tuples(st.sampled_from(tags), st.sampled_from(tags)), min_size=1, max_size=12)


@given(st.lists(sentences(TAG_NAMES), min_size=1, max_size=5))
@settings(deadline=None)
def test_entity_metrics_are_seqevals_for_any_bio_or_bioes_tags(rows: list[list[tuple[str, str]]]) -> None:
    from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

    true, guess = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    predictions = [{"tags": tags, "scores": [0.5] * len(tags)} for tags in guess]
    sums = token_classification.statistics(true, predictions, TAG_NAMES).sum(0, dtype="float64")
    values = token_classification.metrics(sums, TAG_NAMES)
    figures = (f1_score, precision_score, recall_score)
    for metric, function in zip(("entity_f1", "entity_precision", "entity_recall"), figures, strict=True):
        assert values[metric] == pytest.approx(function(true, guess, zero_division=0))
    if any(set(tags) - {"O"} for tags in (*true, *guess)):
        table = token_classification.report(sums, TAG_NAMES)["per_class"]
        for kind, figure in classification_report(true, guess, output_dict=True, zero_division=0).items():
            if kind in table:
                assert table[kind]["f1"] == pytest.approx(figure["f1-score"])
                assert table[kind]["support"] == figure["support"]


@given(sentences(TAG_NAMES))
@settings(deadline=None)
def test_tag_metrics_are_scikit_learns(row: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    true, guess = [pair[0] for pair in row], [pair[1] for pair in row]
    found = token_classification.statistics([true], [{"tags": guess, "scores": [0.5] * len(guess)}], TAG_NAMES)
    values = token_classification.metrics(found.sum(0, dtype="float64"), TAG_NAMES)
    assert values["accuracy"] == pytest.approx(accuracy_score(true, guess))
    for average in ("macro", "micro", "weighted"):
        assert values[f"token_f1_{average}"] == pytest.approx(f1_score(true, guess, average=average, zero_division=0))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("I-PER I-PER I-LOC", {("PER", 0, 2), ("LOC", 2, 3)}),  # conlleval: an I- without its B- starts an entity
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("S-PER B-LOC I-LOC E-LOC", {("PER", 0, 1), ("LOC", 1, 4)}),
        ("U-PER B-LOC L-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3), ("LOC", 3, 4)}),  # BILOU
        ("NOUN NOUN VERB O NOUN", {("NOUN", 0, 2), ("VERB", 2, 3), ("NOUN", 4, 5)}),  # plain tags
        ("B-first-name I-first-name", {("first-name", 0, 2)}),
        ("E-MAIL E-MAIL O S-BAHN S-BAHN", {("E-MAIL", 0, 2), ("S-BAHN", 3, 5)}),  # plain tags that look like prefixes
        ("E-MAIL E-MAIL B-LOC I-LOC", {("E-MAIL", 0, 2), ("LOC", 2, 4)}),  # nothing that begins a MAIL
        ("E-MAIL E-MAIL B-LOC I-LOC PHONE", {("E-MAIL", 0, 2), ("LOC", 2, 4), ("PHONE", 4, 5)}),
    ],
)
def test_spans_of_tags(tags: str, spans: set[tuple[str, int, int]]) -> None:
    assert set(token_classification.entities(tags.split(), token_classification.grammar(tags.split()))) == spans


def test_without_any_entity_the_entity_metrics_are_0_and_finite() -> None:
    found = token_classification.statistics([["O", "O"]], [{"tags": ["O", "O"], "scores": [0.9, 0.9]}], ["O"])
    values = token_classification.metrics(found.sum(0, dtype="float64"), ["O"])
    assert values["entity_f1"] == 0.0 and values["accuracy"] == 1.0


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_weighted_sums_are_the_metrics_of_the_repeated_rows(data: st.DataObject) -> None:
    names = data.draw(st.sampled_from(sorted(objectives.TABLE)))
    objective, labels = objectives.module(names), TAG_NAMES
    row = sentences(labels) if objective.OUTPUTS.get("tags") else st.lists(
        st.tuples(st.sampled_from(labels), st.sampled_from(labels)), min_size=1, max_size=1)  # fmt: skip
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    if objective.OUTPUTS.get("tags"):
        targets: list[Any] = [[true for true, _ in one] for one in rows]
        predictions = [{"tags": [guess for _, guess in one], "scores": [0.7] * len(one)} for one in rows]
    else:
        targets = [one[0][0] for one in rows]
        predictions = [{"label": one[0][1], "score": 0.3} for one in rows]
    times = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)).filter(any))
    weighted = np.array(times) @ objective.statistics(targets, predictions, labels).astype("float64")
    repeated = [number for number, count in enumerate(times) for _ in range(count)]
    picked = [targets[number] for number in repeated], [predictions[number] for number in repeated]
    again = objective.statistics(*picked, labels).sum(0, dtype="float64")
    expected = objective.metrics(again, labels)
    for metric, value in objective.metrics(np.stack([weighted, weighted]), labels).items():
        assert value == pytest.approx([expected[metric]] * 2, nan_ok=True), metric
