"""The rows of a simulated history, day by day, and the tiny model that learns them."""

import csv
import random
from pathlib import Path
from typing import Any

import yaml

LABELS = ("account", "card", "delivery", "refund")
WORDS = 3_000  # of the vocabulary; 40 of them belong to each label
SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "ar", "en", "il")]
RECIPES: dict[str, dict[str, Any]] = {
    "replay": {
        "data": {"fresh": {"train_on": "replay", "replay": {"ratio": 1.0}, "start_from": "champion"}},
        "evaluation": {"window": 500},
    },
    "all": {},
}


def word(number: int) -> str:
    """A made-up word, each number another."""
    size = len(SYLLABLES)
    return SYLLABLES[number % size] + SYLLABLES[number // size % size] + SYLLABLES[number // size**2 % size]


def write(path: Path, day: int, count: int) -> None:
    """A day's file: rows that nobody has seen, a few that nearly repeat an older one, a few that are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(day)
    rows = [_row(drawn) for _ in range(count)]
    for place in range(3):
        again = _row(random.Random(drawn.randrange(1, day + 1)))  # the first row of an older day
        rows[place + 1] = (f"{again[0]} {word(drawn.randrange(WORDS))}", again[1])
    rows[-1] = ("", rows[-1][1])
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def _row(drawn: random.Random) -> tuple[str, str]:
    label = drawn.randrange(len(LABELS))
    told = [word(drawn.randrange(WORDS)) for _ in range(drawn.randrange(14, 24))]
    told += [word(label * 40 + drawn.randrange(40)) for _ in range(3)]
    drawn.shuffle(told)
    return " ".join(told), LABELS[label]


def recipe(folder: Path, arm: str) -> Path:
    """The recipe of a history, beside its tiny model; written once."""
    path = folder / "recipe.yaml"
    if not path.exists():
        _write_model(folder / "model")
        sections = RECIPES[arm]
        tree = {
            "name": "growth", "objective": {"type": "text-classification", "max_length": 48},
            "base_model": str(folder / "model"),
            "training": {"epochs": 1, "tokens_per_batch": 16_384, "learning_rate": 2.0e-3, "precision": "fp32"},
            **sections,
            "data": {"sources": [{"path": "rows/*.csv"}], **sections.get("data", {})},
            "evaluation": {"precision": "fp32", **sections.get("evaluation", {})},
        }  # fmt: skip
        path.write_text(yaml.safe_dump(tree))
    return path


def _write_model(folder: Path) -> None:
    """An encoder of one layer with random weights, and a tokenizer that knows every word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ids = {one: place for place, one in enumerate([*special, *(word(number) for number in range(WORDS))])}
    made = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    torch.manual_seed(17)
    BertModel(
        BertConfig(
            vocab_size=len(ids), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)
