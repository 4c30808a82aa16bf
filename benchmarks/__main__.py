"""`python -m benchmarks [NAME ...]`: run benchmarks and write `results.json` and `docs/reference/benchmarks.md`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cli import answers, deployment, quickstart
from benchmarks.command import NotHereError
from benchmarks.distributed import run as processes
from benchmarks.drift import run as drift
from benchmarks.gpu import run as gpu
from benchmarks.growth import run as growth
from benchmarks.house import run as house
from benchmarks.ingest import run as ingest
from benchmarks.methods import page as methods_page
from benchmarks.methods import run as methods
from benchmarks.overhead import run as overhead
from benchmarks.policies import run as policies
from benchmarks.quality import quality
from benchmarks.scoring import run as scoring
from benchmarks.training import learning
from benchmarks.training import run as training

BENCHMARKS: dict[str, Callable[[], dict[str, Any]]] = {
    "quickstart": quickstart.measure,
    "answers": answers.measure,
    "training": training.measure,
    "gpu": gpu.measure,
    "learning": learning.measure,
    "processes": processes.measure,
    "scoring": scoring.measure,
    "overhead": overhead.measure,
    "deployment": deployment.measure,
    "ingest": ingest.measure,
    "drift": drift.measure,
    "policies": policies.measure,
    "growth": growth.measure,
    "house": house.measure,
    "methods": methods.measure,
    "banking77": lambda: quality.measure("configs/support_banking77.yaml"),
    "conll2003": lambda: quality.measure("configs/ner_conll2003.yaml"),
    "imdb": lambda: quality.measure("configs/sentiment_imdb.yaml", seeds=(17,)),
}
RESULTS = Path(__file__).with_name("results.json")


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all of them, and keep the results of the others.

    One that this machine cannot measure is told, and changes nothing.
    """
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in names or BENCHMARKS:
        try:
            results[name] = BENCHMARKS[name]()
        except NotHereError as missing:
            sys.stderr.write(f"{name}: {missing}\n")
            continue
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        report.write_report(results)
    if "methods" in results:
        methods_page.write_page(results["methods"])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RuntimeError as error:
        sys.exit(str(error))
