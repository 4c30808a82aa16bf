"""One arm of the ingest benchmark in a process of its own: `python -m benchmarks.ingest.arms ARM CSV FOLDER`.

The opponent does with plain pandas and Great Expectations what a careful script does: it reads the file, checks it for
the same over the whole frame, splits it by the failing rows and writes both parts. It keeps no account of what it
has seen, finds no near duplicates and assigns no splits.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.ingest.rows import COLUMNS, LABELS
from evertune.runtime.context import RunContext

RECIPE = {
    "name": "short-rows",
    "objective": {"type": "text-classification"},
    "base_model": "package:none/model",
    "contract": {"label": {"values": LABELS}},
}


def run_evertune(path: Path, folder: Path, threshold: float | None = 0.8) -> dict[str, Any]:
    """What the steps `ingest` and `validate` do, with the process that `evertune run` starts for them."""
    import yaml

    from evertune.config import load_recipe
    from evertune.data import admission
    from evertune.data.corpus import transactions
    from evertune.data.sources import read as sources
    from evertune.runtime import helper_process
    from evertune.runtime.home import Home

    data = {"sources": [{"path": str(path)}], "columns": COLUMNS, "split": {"near_duplicate": threshold}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "data": data}), encoding="utf-8")
    recipe = load_recipe(folder / "recipe.yaml")
    home = Home(folder / "home", "short-rows")
    start = time.perf_counter()
    admission.start_validator()
    batch = transactions.ingest_rows(RunContext(recipe, home), lambda seen: sources.read_sources(recipe, seen))
    staged = time.perf_counter()
    snapshot, _ = admission.admit_batch(batch, RunContext(recipe, home), home.data_docs / "000001")
    helper_process.end_processes()  # so that its time and memory are counted
    steps = {"ingest": staged - start, "validate": time.perf_counter() - staged}
    return {"rows": batch.rows, "accepted": snapshot.accepted, "refused": snapshot.refused, "steps": steps}


def run_pandas(path: Path, folder: Path) -> dict[str, Any]:
    """Plain pandas and Great Expectations."""
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pandas as pd

    from evertune.data.contract.text_damage import CONTROL, DAMAGE

    frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    rows = len(frame)
    expectations: list[Any] = [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS.values()]
    for name in (COLUMNS["text"], COLUMNS["label"]):
        expectations += [
            gxe.ExpectColumnValuesToNotMatchRegex(column=name, regex=pattern) for pattern in (DAMAGE, CONTROL)
        ]
    expectations += [
        gxe.ExpectColumnValueLengthsToBeBetween(column=COLUMNS["text"], min_value=1, max_value=20_000),
        gxe.ExpectColumnValuesToBeInSet(column=COLUMNS["label"], value_set=LABELS),
        gxe.ExpectColumnValuesToBeUnique(column=COLUMNS["id"]),
    ]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("rows").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("b")
    )
    suite = gx.ExpectationSuite(name="rows", expectations=expectations)
    validation = batch.get_batch({"dataframe": frame}).validate(suite, result_format={"result_format": "COMPLETE"})
    bad = {row for result in validation.results for row in result.result.get("unexpected_index_list") or ()}
    refused = frame.index.isin(list(bad))
    frame[~refused].to_parquet(folder / "accepted.parquet")
    frame[refused].to_parquet(folder / "refused.parquet")
    return {"rows": rows, "accepted": int((~refused).sum()), "refused": int(refused.sum())}


ARMS = {
    "evertune": run_evertune,
    "evertune, near duplicates off": lambda path, folder: run_evertune(path, folder, None),
    "pandas and Great Expectations": run_pandas,
}


def main(arm: str, path: str, folder: str) -> None:
    """Print the arm's seconds, from before its imports to its end, and the peak memory of its processes, as JSON."""
    start = time.perf_counter()
    result = ARMS[arm](Path(path), Path(folder))
    seconds = time.perf_counter() - start
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    peak = sum(usage.ru_maxrss for usage in usages) * 1024  # of each at its own time: the two together never held more
    sys.stdout.write(json.dumps({**result, "seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
