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


def make_word(number: int) -> str:
    """A made-up word, each number another."""
    size = len(SYLLABLES)
    return SYLLABLES[number % size] + SYLLABLES[number // size % size] + SYLLABLES[number // size**2 % size]


def write_day(path: Path, day: int, count: int) -> None:
    """A day's file: rows that nobody has seen, a few that nearly repeat an older one, a few that are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(day)
    rows = [_draw_row(rng) for _ in range(count)]
    for index in range(3):
        older = _draw_row(random.Random(rng.randrange(1, day + 1)))  # the first row of an older day
        rows[index + 1] = (f"{older[0]} {make_word(rng.randrange(WORDS))}", older[1])
    rows[-1] = ("", rows[-1][1])
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def _draw_row(rng: random.Random) -> tuple[str, str]:
    label = rng.randrange(len(LABELS))
    words = [make_word(rng.randrange(WORDS)) for _ in range(rng.randrange(14, 24))]
    words += [make_word(label * 40 + rng.randrange(40)) for _ in range(3)]
    rng.shuffle(words)
    return " ".join(words), LABELS[label]


def write_recipe(folder: Path, arm: str) -> Path:
    """The recipe of a history, beside its tiny model; written once."""
    path = folder / "recipe.yaml"
    if not path.exists():
        _write_model(folder / "model")
        sections = RECIPES[arm]
        tree = {
            "name": "growth",
            "objective": {"type": "text-classification", "max_length": 48},
            "base_model": str(folder / "model"),
            "training": {"epochs": 1, "tokens_per_batch": 16_384, "learning_rate": 2.0e-3, "precision": "fp32"},
            **sections,
            "data": {"sources": [{"path": "rows/*.csv"}], **sections.get("data", {})},
            "evaluation": {"precision": "fp32", **sections.get("evaluation", {})},
        }
        path.write_text(yaml.safe_dump(tree))
    return path


def _write_model(folder: Path) -> None:
    """An encoder of one layer with random weights, and a tokenizer that knows every word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ids = {token: index for index, token in enumerate([*special, *(make_word(number) for number in range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    torch.manual_seed(17)
    BertModel(
        BertConfig(
            vocab_size=len(ids),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
