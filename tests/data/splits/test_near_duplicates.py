"""Texts that are near duplicates stay together, others do not, by the exact similarity of their shingles."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from evertune.data.columns.components import label_components
from evertune.data.splits.minhash import compute_signatures, normalise_texts
from evertune.data.splits.near_duplicates import find_near_duplicates
from tests.helpers.data import TOKENS, current, good, make_home, make_recipe, run, write_csv, write_jsonl


def linked(texts: list[str], threshold: float, known: int = 0) -> np.ndarray:
    """The components of texts, the first of which are known already."""
    normal = normalise_texts(pa.array(texts))
    signatures = compute_signatures(normal)

    def look_up(places: np.ndarray) -> pa.Array:
        return pa.concat_arrays([normal.slice(known), normal.slice(0, known).take(pa.array(places))])

    pairs = find_near_duplicates(signatures[known:], signatures[:known], threshold, look_up)
    return label_components(len(texts), (pairs + known) % len(texts))  # links counts fresh rows first


def similarity(one: list[str], other: list[str]) -> float:
    first, second = (set(zip(words, words[1:], words[2:], strict=False)) for words in (one, other))
    return len(first & second) / len(first | second)


def twins(count: int, low: float, high: float) -> list[str]:
    """Texts, and behind them for each of them one whose similarity with it lies in a range."""
    chance = random.Random(17)
    first = list[str]()
    second = list[str]()
    while len(first) < count:
        words = [f"w{len(first)}x{index}" for index in range(chance.randint(8, 60))]
        other = list(words)
        for index in chance.sample(range(len(words)), chance.randint(1, 3)):
            other[index] = f"other{index}"
        if low <= similarity(words, other) < high:
            first.append(" ".join(words))
            second.append(" ".join(other))
    return [*first, *second]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("known", [0, 400])
def test_pairs_just_above_the_threshold_are_linked_and_just_below_are_not(threshold: float, known: int) -> None:
    """The first of each pair may be known."""
    above = linked(twins(400, threshold, threshold + 0.06), threshold, known)
    assert (above[:400] == above[400:]).all()
    below = linked(twins(400, threshold - 0.06, threshold), threshold, known)
    assert not (below[:400] == below[400:]).any()


def test_in_a_bucket_of_many_all_that_belongs_together_is_found() -> None:
    """Texts of one pattern: near enough to share buckets, and only those of one kind are near duplicates."""
    texts = []
    for kind in range(60):
        words = [f"same{index}" for index in range(40)]
        words[::9] = [f"kind{kind}x{index}" for index in range(len(words[::9]))]
        texts += [" ".join([*words, f"number{number}"]) for number in range(30)]
    signatures = linked(texts, 0.8)
    assert [len(set(signatures[index : index + 30])) for index in range(0, len(texts), 30)] == [1] * 60
    assert len(set(signatures)) == 60


@pytest.mark.parametrize("objective", ["text-classification", "token-classification"])
def test_the_corpus_gives_the_texts_of_known_rows(tmp_path: Path, objective: str) -> None:
    texts = twins(20, 0.8, 0.82)
    home = make_home(tmp_path)
    if objective == "text-classification":
        recipe = make_recipe(tmp_path)
        for night in range(2):
            write_csv(
                tmp_path / f"{night}.csv",
                [*good(20, 40 * night), *[(text, "card") for text in texts[20 * night : 20 * night + 20]]],
            )
            run(recipe, home)
    else:
        recipe = make_recipe(tmp_path, objective=TOKENS, data={"sources": [{"path": "*.json"}]})
        for night in range(2):
            rows = [
                {"tokens": text.split(), "tags": ["B-X", *["O"] * text.count(" ")]}
                for text in texts[20 * night : 20 * night + 20]
            ]
            write_jsonl(tmp_path / f"{night}.json", rows)
            run(recipe, home)
    rows = current(home)
    by_text = {" ".join(row["tokens"]) if "tokens" in row else row["text"]: row for row in rows}
    for first, second in zip(texts[:20], texts[20:], strict=True):
        assert by_text[first]["component"] == by_text[second]["component"]
        assert by_text[first]["split"] == by_text[second]["split"]
