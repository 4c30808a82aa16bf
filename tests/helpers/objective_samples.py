"""What the tests over all objectives give each of them: a few inputs and targets, and rows that a tiny model learns."""

import json
from collections.abc import Sequence
from typing import Any

from evertune.objectives import load_objective
from tests.helpers.model import LABELS, MOVES, TAGS, tag_rows, text_rows, write_tiny_decoder, write_tiny_seq2seq
from tests.helpers.picture import CODES, picture, write_tiny_stages, write_tiny_vision

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ADJECTIVES = "amber birch cedar dune ember fjord grove heath inlet jade kelp lagoon maple north ochre pine".split()
PLACES = "Paris Rome Oslo Lima".split()


def apart(number: int) -> str:
    """Words that make a row unlike the others, so that no two are near duplicates."""
    return " ".join([*(ADJECTIVES[number * step % 16] for step in (3, 5, 7, 11)), str(number * 7919)])


def texts(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {**row, "text": f"{row['text']} {apart(place + start)}"}
        for place, row in enumerate(text_rows(count, start=start))
    ]


def tags(count: int, start: int = 0) -> list[dict[str, Any]]:
    rows = []
    for place, row in enumerate(tag_rows(count)):
        more = apart(place + start).split()
        rows.append({"tokens": [*row["tokens"], *more], "tags": [*row["tags"], *["O"] * len(more)]})
    return rows


def several(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Texts with none, one or two labels."""
    rows = []
    for number in range(start, start + count):
        chosen = [label for place, label in enumerate(LABELS) if (number % 8) >> place & 1]
        rows.append({"text": f"{' '.join(MOVES[label] for label in chosen)} {apart(number)}", "labels": chosen})
    return rows


def two(count: int, start: int = 0, target: str = "label") -> list[dict[str, Any]]:
    """Two texts that are of one kind or not."""
    rows = []
    for number in range(start, start + count):
        first = LABELS[number % 3]
        second = LABELS[(number + number // 3 % 2) % 3]
        same = first == second
        given = {"label": "same" if same else "other", "score": float(same) + number % 5 / 10}[target]
        rows.append({"text": f"{MOVES[first]} {apart(number)}", "text_pair": MOVES[second], target: given})
    return rows


def questions(count: int, start: int = 0) -> list[dict[str, Any]]:
    rows = []
    for number in range(start, start + count):
        context = f"{apart(number)} John lives in {PLACES[number % 4]} the a"
        answer = {"start": context.index("John"), "text": "John"}
        rows.append({"context": context, "question": "the card lives in", "answer": json.dumps(answer)})
    return rows


def plays(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"{row['text']}: so it was"} for row in texts(count, start)]


def answers(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": row["text"], "answer": f"We look into your {row['label']}."} for row in texts(count, start)]


def summaries(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": row["text"], "target": row["label"]} for row in texts(count, start)]


def pictures(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Bright or dark pictures with grain, so that no two are alike."""
    return [
        {"image": picture(number % 2 * 128, 8, number), "label": ("dark", "bright")[number % 2]}
        for number in range(start, start + count)
    ]


SPAN = '{"start": 0, "text": "John"}'
# Inputs, targets and labels of an objective, rows that teach it, and their labels: a new objective needs a line here.
SAMPLES: dict[str, dict[str, Any]] = {
    "text-classification": {
        "inputs": ["my card was lost", "", "when " * 40],
        "targets": ["card", "refund", "delivery"],
        "names": LABELS,
        "rows": texts,
    },
    "token-classification": {
        "inputs": [["John", "lives", "in", "Paris"], ["Paris"], ["the"] * 40],
        "targets": [["B-PER", "O", "O", "B-LOC"], ["B-LOC"], ["O"] * 40],
        "names": NAMES,
        "rows": tags,
        "labels": TAGS,
    },
    "multi-label": {
        "inputs": ["my card was lost", "", "when " * 40],
        "targets": [["card"], [], ["card", "delivery"]],
        "names": LABELS,
        "rows": several,
    },
    "pair-classification": {
        "inputs": [("my card", "was lost"), ("", ""), ("when " * 40, "the")],
        "targets": ["same", "other", "same"],
        "names": ("other", "same"),
        "rows": two,
    },
    "pair-regression": {
        "inputs": [("my card", "was lost"), ("", ""), ("when " * 40, "the")],
        "targets": ["0.5", "1.0", "0.0"],
        "names": (),
        "rows": lambda count, start=0: two(count, start, "score"),
    },
    "question-answering": {
        "inputs": [("John lives", "the card"), ("John", ""), ("John " * 40, "the")],
        "targets": [SPAN] * 3,
        "names": (),
        "rows": questions,
    },
    "embedding": {
        "inputs": ["my card was lost", "", "when " * 40],
        "targets": ["card", "refund", "delivery"],
        "names": LABELS,
        "rows": texts,
    },
    "masked-lm": {
        "inputs": ["my [MASK] was lost", "", "when " * 40],
        "targets": ["my card was lost", "", "when " * 40],
        "names": (),
        "rows": lambda count, start=0: [{"text": one["text"]} for one in texts(count, start)],
    },
    "causal-lm": {
        "inputs": ["my card was lost", "", "when " * 40],
        "targets": ["my card was lost", "", "when " * 40],
        "names": (),
        "rows": plays,
        "base": write_tiny_decoder,
        "options": {"max_new_tokens": 6, "continued": 1.0},
    },
    "chat": {
        "inputs": ["my card was lost", "", "when " * 40],
        "targets": ["a", "b", "c"],
        "names": (),
        "rows": answers,
        "base": write_tiny_decoder,
        "options": {"max_length": 48, "max_new_tokens": 6, "answered": 1.0},
    },
    "seq2seq": {
        "inputs": ["my card was lost", "", "when " * 40],
        "targets": ["card", "none", "delivery"],
        "names": (),
        "rows": summaries,
        "base": write_tiny_seq2seq,
        "options": {"max_new_tokens": 4},
    },
    "image-classification": {
        "inputs": [picture(0, 8), picture(128, 5), picture(128, 8)],
        "targets": ["dark", "bright", "bright"],
        "names": ("bright", "dark"),
        "rows": pictures,
        "base": write_tiny_vision,
        "options": {"size": 8},
    },
    "image-tokens": {
        "inputs": [picture(0, 8), picture(128, 5), picture(128, 8)],
        "targets": [picture(0, 8), picture(128, 5), picture(128, 8)],
        "names": (),
        "options": {"size": 8},
        "rows": lambda count, start=0: [{"image": row["image"]} for row in pictures(count, start)],
        "base": lambda folder: write_tiny_vision(folder, CODES),
    },
    "text-to-image": {
        "inputs": ["a dark one", "a bright one"],
        "targets": [picture(0, 8), picture(128, 8)],
        "names": (),
        "options": {"size": 8, "classifier": "classifier", "layers": 1, "width": 16, "heads": 2, "words": 64},
        "rows": lambda count, start=0: [
            {"image": row["image"], "caption": f"a {row['label']} one {apart(number)}"}
            for number, row in enumerate(pictures(count, start), start)
        ],
        "base": write_tiny_stages,
    },
}


def labels_of(name: str) -> Sequence[str]:
    """Of the rows that teach an objective."""
    found: Sequence[str] = SAMPLES[name].get("labels", SAMPLES[name]["names"])
    return found


def short(name: str, length: int) -> dict[str, int]:
    """The option that cuts texts, of an objective that has one; a caption has few words anyway."""
    known = load_objective(name).Options.model_fields
    return {"max_length": length} if "max_length" in known and "classifier" not in known else {}
