"""Evertune: continuous fine-tuning that ships only on evidence.

`import evertune` imports nothing heavy: each name of the Python API is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evertune.api import (
        BacktestResult,
        Model,
        Outcome,
        Recipe,
        Scores,
        backtest,
        history,
        load,
        load_recipe,
        run,
        score,
    )

__version__ = "0.1.0"
__all__ = [
    "BacktestResult",
    "Model",
    "Outcome",
    "Recipe",
    "Scores",
    "__version__",
    "backtest",
    "history",
    "load",
    "load_recipe",
    "run",
    "score",
]


if not TYPE_CHECKING:  # to a type checker an unknown name stays an error

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module("evertune.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
