"""Data sets for objectives that no file of the benchmark data is made for, each derived from one that is.

`python -m benchmarks.quality.made_sets FOLDER` writes `headlines.jsonl` (does a headline belong to an article?),
`likeness.jsonl` (how alike are two texts?) and `names.jsonl` (who or what does a sentence name?), none of which belongs
into the project: their rows are the benchmark data's.
"""

import csv
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

QUESTIONS = {
    "PER": "Which person is named?",
    "LOC": "Which place is named?",
    "ORG": "Which organisation is named?",
}
MARKS = {".", ",", ":", ";", "!", "?", ")", "'s", "n't", "%"}  # that stand right behind a word


def main(folder: Path) -> None:
    """Write all sets into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("headlines", make_headlines()), ("likeness", make_likeness()), ("names", make_names())):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}.jsonl: {text.count(chr(10)):,} rows\n")


def data_folder() -> Path:
    """Where the benchmark data lie."""
    return Path(os.environ.get("EVERTUNE_DATA") or Path(__file__).parents[3] / "shared" / "data")


def _read_news() -> list[dict[str, str]]:
    with (data_folder() / "ag_news" / "news.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def make_headlines(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Pairs of a headline and an article: its own, or another one's of the same topic."""
    rows = _read_news()
    draw = random.Random(seed)
    by_topic: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_topic.setdefault(row["topic"], []).append(index)
    for index, row in enumerate(rows):
        is_own = draw.random() < 0.5
        other_index = draw.choice(by_topic[row["topic"]])
        is_own = is_own or other_index == index
        text = row["text"] if is_own else rows[other_index]["text"]
        yield {"headline": row["title"], "article": text, "label": "own" if is_own else "other", "id": str(index)}


def make_likeness(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Pairs of banking77's queries with how alike they are: the share of their intents' words that both have."""
    with (data_folder() / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    draw = random.Random(seed)
    by_intent = dict[str, list[str]]()
    for row in rows:
        by_intent.setdefault(row["category"], []).append(row["text"])
    words = {intent: set(intent.lower().strip("?").split("_")) for intent in by_intent}
    near = {name: sorted(words, key=lambda other_name: -len(words[name] & words[other_name]))[:6] for name in words}
    for index, row in enumerate(rows):
        intent = draw.choice(near[row["category"]] if index % 4 else sorted(words))
        shared = words[row["category"]] & words[intent]
        all_words = words[row["category"]] | words[intent]
        pair = draw.choice(by_intent[intent])
        yield {"first": row["text"], "second": pair, "score": round(len(shared) / len(all_words), 3), "id": str(index)}


def make_names() -> Iterator[dict[str, Any]]:
    """Sentences of CoNLL-2003 that name exactly one entity of a kind, asked for it."""
    from evertune.objectives.token_classification import find_entities, parse_grammar

    for split in ("train", "valid", "test"):
        for number, (words, tags) in enumerate(_read_sentences(split)):
            spans = list(find_entities(tags, parse_grammar(set(tags))))
            context, starts = _join_words(words)
            for kind, question in QUESTIONS.items():
                matches = [(first, last) for span_kind, first, last in spans if span_kind == kind]
                if len(matches) == 1 and len(words) > 5:
                    first, last = matches[0]
                    end = starts[last - 1] + len(words[last - 1])
                    answer = {"start": starts[first], "text": context[starts[first] : end]}
                    key = f"{split}-{number}-{kind}"
                    yield {
                        "context": context,
                        "question": question,
                        "answer": answer,
                        "id": key,
                        "part": {"valid": "validation"}.get(split, split),
                    }


def _read_sentences(split: str) -> Iterator[tuple[list[str], list[str]]]:
    text = (data_folder() / "conll2003" / f"{split}.txt").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        lines = [line.split() for line in block.splitlines() if line and not line.startswith("-DOCSTART-")]
        if lines:
            yield [line[0] for line in lines], [line[-1] for line in lines]


def _join_words(words: list[str]) -> tuple[str, list[int]]:
    """The words as a text, and where each begins."""
    text = ""
    starts = []
    for word in words:
        text += "" if not text or word in MARKS else " "
        starts.append(len(text))
        text += word
    return text, starts


if __name__ == "__main__":
    main(Path(sys.argv[1]))
