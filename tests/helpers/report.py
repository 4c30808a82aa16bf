"""What the tests of the report share: sample data of every page, and a page as a browser reads it."""

import copy
import itertools
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from evertune.objectives import load_objective
from evertune.report import draw_pictures, write_run_page

Json = dict[str, Any]
SECTIONS = [
    "Evidence",
    "Metrics",
    "Slices",
    "Classes",
    "Changed rows",
    "Confusion",
    "Calibration",
    "Training",
    "Data",
    "Lineage",
    "Cost",
]
LABELS = ["refund", "delivery", "damage"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
HISTORY = [
    {"step": 10, "epoch": 0.5, "loss": 1.2, "learning_rate": 1e-4, "grad_norm": 0.9},
    {"step": 20, "epoch": 1.0, "loss": 0.7, "learning_rate": 1e-5, "grad_norm": 0.8},
    {"step": 20, "epoch": 1.0, "eval_loss": 0.8, "eval_f1_macro": 0.75},
]
OUTCOME = {
    "decision": "promoted",
    "reason": "better by 3.1 points",
    "model": "support",
    "version": 4,
    "champion_version": 3,
    "run_id": "0a6f",
    "snapshot": {"version": 12, "rows": {"train": 980, "test": 60}, "fingerprint": "a2f7"},
    "rows": {"new": 1312, "accepted": 1288, "refused": 24, "reasons": {"text: too short": 24}},
    "metrics": {},
    "seconds": {"ingest": 1.25, "finetune": 96.3},
    "report": None,
    "training": {"steps": 20, "epochs": 1.0},
    "evidence": [
        {
            "test": "superior",
            "metric": "f1_macro",
            "rows": 312,
            "on": "fresh",
            "estimate": 0.0312345678,
            "low": 0.01,
            "high": None,
            "p": 0.00011,
            "threshold": 0.0083,
            "passed": True,
            "challenger": 0.91,
            "champion": 0.88,
        },
        {
            "test": "minimum",
            "metric": "f1_macro",
            "rows": 1240,
            "on": None,
            "estimate": None,
            "low": 0.7,
            "high": 0.8,
            "p": None,
            "threshold": 0.9,
            "passed": False,
            "challenger": 0.77,
            "champion": None,
        },
    ],
}


ORIGIN = {
    "recipe": "support.yaml",
    "recipe_fingerprint": "c0ffee",
    "code": "3d10",
    "labels": ["a", "b"],
    "base_model": {"name": "minilm", "hub": False, "license": "apache-2.0", "languages": ["en"]},
    "dates": {"train": ["2026-01-05", "2026-03-08"]},
    "sources": [
        {"source": "tickets/9.csv", "rows": 439, "digest": "d1", "days": ["2026-03-02", "2026-03-08"]},
        {"source": "tickets/8.csv", "rows": 7, "digest": None, "days": None},
    ],
    "others": {"sources": 3, "rows": 1200},
    "environment": {
        "cpus": 2,
        "threads": 2,
        "arithmetic": "AVX512",
        "libraries": {"torch": "2.13.0"},
        "base_model": "ba5e",
    },
}


FINDING = {
    "test": "length",
    "statistic": 0.2,
    "usual": 0.1,
    "p": 0.001,
    "adjusted": 0.004,
    "found": True,
    "words": "9 <tokens>, 12 now",
}
DRIFT = {
    "model": "support",
    "version": 3,
    "drifted": True,
    "reason": "p = 0.004: length",
    "p": 0.004,
    "level": 0.05,
    "rows": {"reference": 400, "current": 102},
    "source": "tickets.csv",
    "findings": [FINDING, {**FINDING, "test": "vocabulary", "p": 0.4, "adjusted": 0.8, "found": False}],
    "left_out": 7,
}
SEARCH = {
    "run_id": "5ea",
    "metric": "f1_macro",
    "falls": False,
    "rows": {"train": 900, "validation": 100},
    "fields": {"training.learning_rate": "1e-05 to 0.001, log", "training.method": "full, lora"},
    "trials": [
        {
            "number": number,
            "state": "pruned" if number == 1 else "complete",
            "value": 0.7 + number / 100,
            "values": {"training.learning_rate": 1e-5 * 3**number, "training.method": method},
            "seconds": 12.0,
            "why": "out of memory" if number == 1 else None,
        }
        for number, method in enumerate(("full", "lora", "full", "lora"))
    ],
    "best": 3,
    "value": 0.73,
    "values": {"training.learning_rate": 0.00027, "training.method": "lora"},
    "importances": {"training.learning_rate": 0.8, "training.method": 0.2},
    "sentence": "f1_macro 0.7300 on the validation rows",
}
DAYS = ["2026-01-05", "2026-01-12", "2026-01-19"]
BACKTEST = {
    "every": "week",
    "metric": "accuracy",
    "steps": [
        {
            "policy": policy,
            "day": day,
            "rows": 240,
            "metrics": {"accuracy": 0.9},
            "retrained": policy == "always",
            "promoted": policy == "always",
            "wrong": policy == "always" and day == DAYS[1],
            "lost": 0.01,
            "chance_wrong": 0.9 if policy == "always" and day == DAYS[1] else 0.1,
            "proven_wrong": False,
            "before": 0.88,
            "verdict": None,
            "reason": None,
            "drift": None,
        }
        for policy in ("never", "always")
        for day in DAYS
    ],
    "summaries": [
        {
            "policy": policy,
            "metric": 0.9,
            "below": -0.01,
            "low": -0.02,
            "high": 0.0,
            "windows": 3,
            "retrainings": 3,
            "promotions": 3,
            "wrong": 1,
            "expected_wrong": 1.1,
            "proven_wrong": 0,
            "lost": 0.02,
            "lost_low": 0.0,
            "lost_high": 0.03,
            "utility": 0.88,
            "seconds": 120.0,
        }
        for policy in ("never", "always")
    ],
    "recommended": "never",
    "sentence": "never: mean accuracy 0.9000 over 3 windows",
    "left_out": {"without a date": 3},
}


class Read(HTMLParser):
    """A page as a browser reads it: tags with attributes, texts, and headings."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: list[str] = []
        self.headings: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_data(self, data: str) -> None:
        if self.inside[-1:] != ["style"]:
            self.texts.append(data)
        if self.inside[-1:] == ["h2"]:
            self.headings.append(data)
            self.inside.append("")

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def structure(self) -> list[tuple[str, list[str]]]:
        return [(tag, list(attributes)) for tag, attributes in self.tags if tag != "wbr"]


def judge(kind: str, names: list[str], targets: list[Any], right: float, seed: int) -> Json:
    """Return the scores of a model that is right with this probability, as the objective computes them."""
    random = np.random.default_rng(seed)
    objective = load_objective(kind)

    def guess(name: str) -> str:
        return name if random.random() < right else str(random.choice(names))

    if kind == "text-classification":
        predictions = [{"label": guess(target), "score": random.uniform(0.4, 1)} for target in targets]
    else:
        predictions = [
            {"tags": [guess(tag) for tag in tags], "scores": random.uniform(0.4, 1, len(tags))} for tags in targets
        ]
    sums = objective.compute_statistics(targets, predictions, names).sum(0, dtype="float64")
    values = {name: float(value) for name, value in objective.compute_metrics(sums, names).items()}
    true, predicted = objective.pair_labels(targets, predictions)
    counts = [
        [sum(pair == (row, column) for pair in zip(true, predicted, strict=True)) for column in names] for row in names
    ]
    return {
        "metrics": {"test": values, "test_clean": values, "fresh": values},
        "intervals": {name: [value, value - 0.02, value + 0.02] for name, value in values.items()},
        **objective.summarize_classes(sums, names),
        "confusion": {"names": names, "counts": counts},
    }


def details_of(names: list[str], rows: int = 60, kind: str = "text-classification") -> Json:
    """Return details as `evaluate` writes them."""
    targets: list[Any] = list(itertools.islice(itertools.cycle(names), rows))
    if kind == "token-classification":
        targets = [targets[start : start + 4] for start in range(0, rows, 4)]
    challenger, champion = (judge(kind, names, targets, right, seed) for right, seed in ((0.8, 1), (0.6, 2)))
    changed = {
        "input": "where is my parcel",
        "target": names[0],
        "champion": names[1],
        "challenger": names[0],
        "kind": "fixed",
    }
    return {
        "metric": load_objective(kind).METRICS[0],
        "names": names,
        "leaked": 2,
        "rows": {"test": rows, "test_clean": rows - 2, "fresh": 20, "history": rows - 22},
        "challenger": challenger,
        "champion": champion,
        "slices": {
            f"label={names[0]}": {"rows": 20, "challenger": 0.7, "champion": 0.8},
            "length=short": {"rows": 15, "challenger": 0.9, "champion": 0.6},
        },
        "changed": [changed, {**changed, "champion": names[0], "challenger": names[1], "kind": "broken"}],
    }


DETAILS = details_of(LABELS)
TAG_DETAILS = details_of(TAGS, kind="token-classification")


def write_report(folder: Path, outcome: Json = OUTCOME, details: Json = DETAILS, history: list[Json] = HISTORY) -> Path:
    return write_run_page(
        folder / "report.html", outcome, details, history, draw_pictures(folder, details, history), ORIGIN
    )


def write_report_without_pictures(
    folder: Path, outcome: Json = OUTCOME, details: Json = DETAILS, origin: Json = ORIGIN
) -> Path:
    return write_run_page(folder / "report.html", outcome, details, HISTORY, {}, origin)


def without(tree: Json, path: str) -> Json:
    """Return a copy without the value at a path such as `a.b`."""
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node[name]
    del node[last]
    return tree
