"""Run by `parity` in a process of its own: load a registered model as a stranger would, predict, write JSON.

Only the packages in the folder that it is given can be imported here, Evertune not among them: a model that works only
beside what happens to be installed fails now, not at the customer's.
"""

import contextlib
import gc
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

# What loading imports anyway, so that it is done by the time that there is a model; whatever is not linked fails later.
SOON = (
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "pandas",
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto.tokenization_auto",
)


def main(packages: str, answer: str) -> None:
    """Import the libraries, wait for `[model_uri, sample]` on standard input, and predict the sample's inputs."""
    gc.disable()  # a short life: collecting takes a quarter of the time that the imports need
    sys.path.insert(0, packages)
    for name in SOON:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if line := sys.stdin.readline():  # none where the process that wanted the answer is gone
        Path(answer).write_text(json.dumps(_predict_sample(*json.loads(line))), encoding="utf-8")
    os._exit(0)  # nothing is left to do, and an orderly end takes as long as the answer


def _predict_sample(model_uri: str, sample: str) -> Any:
    import mlflow
    import pandas as pd

    # Its warnings are of other versions than the logged ones: those are not linked.
    model = mlflow.pyfunc.load_model(model_uri, suppress_warnings=True)
    record = json.loads(Path(sample).read_text(encoding="utf-8"))
    roles = record["role"] if isinstance(record["role"], list) else [record["role"]]
    rows = record["inputs"] if len(roles) > 1 else [[value] for value in record["inputs"]]
    return model.predict(pd.DataFrame(rows, columns=roles)).to_dict("records")


if __name__ == "__main__":
    main(*sys.argv[1:])
