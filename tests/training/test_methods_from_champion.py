"""A training by a method that starts from the champion: merged, or an adapter with which it goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evertune.errors import ConfigError
from evertune.records import Candidate
from evertune.serving import bundle
from tests.helpers.model import LABELS, difference, recipe, split_rows, text_rows, train, weights

ROWS = split_rows(text_rows(24))
STILL = {"epochs": 1, "learning_rate": 1e-12}
ADAPTER = {"type": "lora", "rank": 2, "merge": False}
PROMPT = {"type": "prompt", "virtual_tokens": 3}


def made(base: Path, place: Path, method: Any, champion: Candidate | None = None, **training: Any) -> Candidate:
    data = {"sources": [{"path": "rows.csv"}], "fresh": {"start_from": "champion"}}
    one = recipe(base, data=data, training={"method": method, "epochs": 1, "learning_rate": 2e-2, **training})
    return train(one, place, ROWS, champion=None if champion is None else Path(champion.bundle))


@pytest.fixture(scope="module")
def champions(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    place = tmp_path_factory.mktemp("champions")
    methods = {"adapter": ADAPTER, "prompt": PROMPT, "merged": {**ADAPTER, "merge": True}}
    return {name: made(tiny_model, place / name, method) for name, method in methods.items()}


@pytest.mark.parametrize(("name", "method"), [("adapter", ADAPTER), ("prompt", PROMPT), ("merged", "lora")])
def test_it_goes_on_with_what_the_champion_learned(
    tiny_model: Path, tmp_path: Path, champions: dict[str, Candidate], name: str, method: Any
) -> None:
    champion = champions[name]
    assert difference(made(tiny_model, tmp_path, method, champion, **STILL), champion) < 1e-6


def test_an_adapter_keeps_what_it_knows_of_labels_that_stay(
    tiny_model: Path, tmp_path: Path, champions: dict[str, Candidate]
) -> None:
    labels = ("card", "new", *LABELS[:2])
    rows = split_rows(
        [{**row, "label": "new" if number % 5 == 0 else row["label"]} for number, row in enumerate(text_rows(24))]
    )
    data = {"sources": [{"path": "rows.csv"}], "fresh": {"start_from": "champion"}}
    one = recipe(tiny_model, data=data, training={"method": ADAPTER, **STILL})
    grown = train(one, tmp_path, rows, labels, champion=Path(champions["adapter"].bundle))
    before = weights(champions["adapter"])
    after = weights(grown)
    head = next(name for name in before if name.endswith("classifier.weight"))
    for number, label in enumerate(LABELS):
        torch.testing.assert_close(after[head][labels.index(label)], before[head][number], atol=1e-6, rtol=0)
    assert bundle.read_labels(Path(grown.bundle)) == list(labels)


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("adapter", {**ADAPTER, "rank": 4}, "the champion is an adapter (type lora, rank 2, "),
        ("adapter", "full", "keep the champion's method, or train from the base"),
        (
            "merged",
            ADAPTER,
            "the champion is a full model, so the unmerged adapter of training.method would need the champion",
        ),
    ],
)
def test_a_champion_of_another_kind_is_said(
    tiny_model: Path, tmp_path: Path, champions: dict[str, Candidate], name: str, method: Any, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        made(tiny_model, tmp_path, method, champions[name])
    assert message in str(raised.value)
