"""What a model can be tuned for: `table.py` lists the objectives, `interface.py` says what each of them has."""

from evertune.objectives.interface import LISTS, ROLES, Cell, Input, Objective, Prediction
from evertune.objectives.table import TABLE, Options, extract_cells, label_roles, load_objective

__all__ = [
    "LISTS",
    "ROLES",
    "TABLE",
    "Cell",
    "Input",
    "Objective",
    "Options",
    "Prediction",
    "extract_cells",
    "label_roles",
    "load_objective",
]
