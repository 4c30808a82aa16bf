"""Tags come out well-formed, and as likely as well-formed tags can be."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.objectives import token_classification as objective

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
    found = objective.decode(logits, [{"word_starts": list(range(words))}], names)[0]
    log = logits[0].float().log_softmax(-1).numpy()
    candidates = [path for path in itertools.product(range(len(names)), repeat=words)
                  if well_formed([names[tag] for tag in path])]  # fmt: skip
    best = max(candidates, key=lambda path: sum(log[word, tag] for word, tag in enumerate(path)))
    assert found["tags"] == [names[tag] for tag in best]
    assert found["scores"] == pytest.approx([float(np.exp(log[word, tag])) for word, tag in enumerate(best)], rel=1e-5)


def test_plain_tags_are_taken_as_they_come() -> None:
    names = ["NN", "O", "VB"]
    logits = torch.tensor([[[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]]])
    assert objective.decode(logits, [{"word_starts": [0, 1, 2]}], names)[0]["tags"] == ["VB", "NN", "VB"]
