"""Tags come out well-formed, and as likely as well-formed tags can be."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.objectives import token_classification as objective
from evertune.serving import bundle
from tests.helpers.model import TOKENS, recipe, split_rows, tag_rows, train

BIO = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
BIOES = ["B-LOC", "E-LOC", "I-LOC", "O", "S-LOC"]


def well_formed(tags: list[str]) -> bool:
    """As a person would check it: what goes on must go on with something of its type that is open."""
    before = "O"
    for tag in tags:
        if tag[0] in "IE" and not (before[0] in "BI" and before[2:] == tag[2:]):
            return False
        before = tag
    return True


@settings(deadline=None, max_examples=60)
@given(names=st.sampled_from([BIO, BIOES]), words=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_the_best_well_formed_tags_are_found(names: list[str], words: int, seed: int) -> None:
    logits = torch.tensor(np.random.default_rng(seed).normal(size=(1, words, len(names))) * 2)
    found = objective.decode(logits, [{"word_starts": list(range(words))}], names, {})[0]
    log = logits[0].float().log_softmax(-1).numpy()
    candidates = [
        path for path in itertools.product(range(len(names)), repeat=words) if well_formed([names[tag] for tag in path])
    ]
    best = max(candidates, key=lambda path: sum(log[word, tag] for word, tag in enumerate(path)))
    assert found["tags"] == [names[tag] for tag in best]
    assert found["scores"] == pytest.approx([float(np.exp(log[word, tag])) for word, tag in enumerate(best)], rel=1e-5)


def test_plain_tags_are_taken_as_they_come() -> None:
    names = ["NN", "O", "VB"]
    logits = torch.tensor([[[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]]])
    assert objective.decode(logits, [{"word_starts": [0, 1, 2]}], names, {})[0]["tags"] == ["VB", "NN", "VB"]


SCHEMES = {
    "IOB1": ["I-PER O I-LOC I-LOC B-LOC O", "I-LOC", "O I-PER B-PER I-PER"],
    "IOB2": ["B-PER O B-LOC I-LOC B-LOC O", "B-LOC", "O B-PER B-PER I-PER"],
    "BIOES": ["S-PER O B-LOC E-LOC S-LOC O", "B-LOC I-LOC E-LOC", "O S-PER B-PER E-PER"],
    "plain": ["E-MAIL O PHONE PHONE", "PHONE E-MAIL E-MAIL", "O"],
}


def certain(rows: list[list[str]], names: list[str], conventions: dict[str, list[str]]) -> list[dict[str, list[str]]]:
    """What is decoded where the true tag of each word has by far the highest logit, and the first tag the next."""
    longest = max(map(len, rows))
    logits = torch.zeros((len(rows), longest, len(names)))
    for row, tags in enumerate(rows):
        for word, tag in enumerate(tags):
            logits[row, word, names.index(tag)] = 5.0
    return objective.decode(logits, [{"word_starts": list(range(len(tags)))} for tags in rows], names, conventions)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_the_train_rows_contain_is_never_forbidden(scheme: str) -> None:
    rows = [line.split() for line in SCHEMES[scheme]]
    names = sorted({tag for tags in rows for tag in tags})
    found = certain(rows, names, objective.find_conventions(rows))
    sums = objective.compute_statistics(rows, found, names).sum(0, dtype="float64")
    assert [one["tags"] for one in found] == rows
    assert float(objective.compute_metrics(sums, names)["entity_f1"]) == 1.0


def test_what_the_train_rows_never_contain_is_forbidden_and_so_it_was_before_conventions_were_noted() -> None:
    rows = [line.split() for line in SCHEMES["IOB1"]]
    names = sorted({tag for tags in rows for tag in tags})
    assert objective.find_conventions(rows) == {"openers": ["I-LOC", "I-PER"]}
    assert objective.find_conventions([line.split() for line in SCHEMES["IOB2"]]) == {"openers": []}
    for conventions in ({}, {"openers": ["I-LOC"]}):
        assert certain(rows, names, conventions)[0]["tags"][0] != "I-PER"


def test_a_bundle_knows_the_conventions_of_its_train_rows(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{**row, "tags": [tag.replace("B-", "I-") for tag in row["tags"]]} for row in tag_rows(30)]
    rows[0]["tags"][-1] = "B-LOC"  # it separates two neighbours
    one = recipe(tiny_model, TOKENS, training={"epochs": 1})
    made = train(one, tmp_path, split_rows(rows), ["B-LOC", "I-LOC", "I-PER", "O"])
    assert bundle.read_card(Path(made.bundle))["conventions"] == {"openers": ["I-LOC"]}


def one_by_one(logits: torch.Tensor, examples: list[dict[str, list[int]]], names: list[str]) -> list[dict[str, Any]]:
    """Decoding as it was before it took a batch at once."""
    likely = logits.float().softmax(-1).numpy()
    allowed, first = objective._find_transitions(names, ())
    made = []
    for row, one in enumerate(examples):
        seen = [position for position, start in enumerate(one["word_starts"]) if start >= 0]
        words = likely[row, [one["word_starts"][position] for position in seen]]
        greedy = words.argmax(-1)
        if len(greedy) and not (first[greedy[0]] and allowed[greedy[:-1], greedy[1:]].all()):
            greedy = objective._viterbi(words, allowed, first)
        tags = ["O"] * len(one["word_starts"])
        scores = [0.0] * len(one["word_starts"])
        for position, tag, word in zip(seen, greedy, words, strict=True):
            tags[position] = names[tag]
            scores[position] = float(word[tag])
        made.append({"tags": tags, "scores": scores})
    return made


@settings(deadline=None, max_examples=60)
@given(starts=st.lists(st.lists(st.integers(-1, 6), max_size=7), min_size=1, max_size=6), seed=st.integers(0, 10_000))
def test_a_batch_is_decoded_as_its_sentences_one_by_one(starts: list[list[int]], seed: int) -> None:
    logits = torch.tensor(np.random.default_rng(seed).normal(size=(len(starts), 7, len(BIO))) * 2)
    examples = [{"word_starts": one} for one in starts]
    assert objective.decode(logits, examples, BIO, {}) == one_by_one(logits, examples, BIO)
