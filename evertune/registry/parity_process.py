"""Run by `parity.check` in a process of its own: load a registered model as a stranger would, predict, write JSON.

Only the packages in the folder that it is given can be imported here, Evertune not among them: a model that works only
beside what happens to be installed fails now, not at the customer's.
"""

import gc
import json
import sys
from pathlib import Path


def main(packages: str, model_uri: str, sample: str, answer: str) -> None:
    """Predict the sample's inputs with the registered model."""
    gc.disable()  # a short life: collecting takes a quarter of the time that the imports need
    sys.path.insert(0, packages)
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(model_uri)
    given = json.loads(Path(sample).read_text(encoding="utf-8"))
    found = model.predict(pd.DataFrame({given["role"]: given["inputs"]}))
    Path(answer).write_text(json.dumps(found.to_dict("records")), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
