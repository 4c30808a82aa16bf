"""The process of a parity check: load a registered model as anyone would, predict, and write JSON.

Only the packages in the given folder can be imported here, and Evertune is not among them: a model that needs anything
else that happens to be installed fails now, and not where it is deployed.
"""

import contextlib
import gc
import importlib
import json
import os
import sys
from pathlib import Path

# Modules that loading a model needs, imported while the process waits; a missing one is reported when it is needed.
MODULES = (
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "pandas",
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto.tokenization_auto",
)


def main(packages: str, answer: str) -> None:
    """Import the libraries, wait for `[model_uri, sample]` on standard input, and predict the sample's inputs.

    Args:
        packages: folder of the packages that can be imported.
        answer: path of the JSON file to write.
    """
    gc.disable()  # collecting would take a quarter of the import time
    sys.path.insert(0, packages)
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    line = sys.stdin.readline()
    if line:  # empty if the parent process has ended
        Path(answer).write_text(json.dumps(_predict_sample(*json.loads(line))), encoding="utf-8")
    os._exit(0)  # skip the interpreter's shutdown, which takes as long as the prediction


def _predict_sample(model_uri: str, sample: str) -> list[dict[str, object]]:
    import mlflow
    import pandas as pd

    # Its warnings are about versions that differ from the logged ones, and only the logged ones are linked.
    model = mlflow.pyfunc.load_model(model_uri, suppress_warnings=True)
    record = json.loads(Path(sample).read_text(encoding="utf-8"))
    roles = record["role"] if isinstance(record["role"], list) else [record["role"]]
    rows = record["inputs"] if len(roles) > 1 else [[value] for value in record["inputs"]]
    predictions: list[dict[str, object]] = model.predict(pd.DataFrame(rows, columns=roles)).to_dict("records")
    return predictions


if __name__ == "__main__":
    main(*sys.argv[1:])
