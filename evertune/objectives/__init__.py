"""What a model can be tuned for: one file an objective, `table.py` lists them, `interface.py` says what each offers."""

from evertune.objectives.interface import LISTS, ROLES, Objective
from evertune.objectives.table import TABLE, Options, extract_cells, label_roles, load_objective

__all__ = ["LISTS", "ROLES", "TABLE", "Objective", "Options", "extract_cells", "label_roles", "load_objective"]
