"""The MLflow model of a bundle. MLflow stores this file and runs it where Evertune is not installed."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class BundleModel(PythonModel):
    """Predicts with the bundle's own code: a frame of inputs in, a frame of predictions out, row by row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle under its own module name, so that two versions in one process do not share code."""
        folder = Path(context.artifacts["bundle"])
        name = f"evertune_bundle_{hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()}"
        spec = importlib.util.spec_from_file_location(
            name, folder / "code" / "__init__.py", submodule_search_locations=[str(folder / "code")]
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        self._predictor = importlib.import_module(f"{name}.inference").Predictor(folder)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, object] | None = None
    ) -> pd.DataFrame:
        """Return one prediction for each row of `model_input`."""
        roles = list(self._predictor.objective.INPUTS)
        is_frame = isinstance(model_input, pd.DataFrame)
        columns = [model_input[role] for role in roles] if is_frame else [model_input]
        rows = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        return pd.DataFrame(self._predictor.predict(list(rows)))


set_model(BundleModel())
