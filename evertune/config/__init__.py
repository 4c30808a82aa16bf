"""One YAML recipe describes a model's whole life: its sections, and how a file becomes a checked `Recipe`."""

from evertune.config.data import Contract, Data, DeltaSource, HubSource, PathSource, SampleSource, Source, SqlSource
from evertune.config.load import Plan, load_recipe, load_search
from evertune.config.recipe import Evaluation, Gate, Recipe, Registry, Schedule, Triggers
from evertune.config.training import Training

__all__ = [
    "Contract",
    "Data",
    "DeltaSource",
    "Evaluation",
    "Gate",
    "HubSource",
    "PathSource",
    "Plan",
    "Recipe",
    "Registry",
    "SampleSource",
    "Schedule",
    "Source",
    "SqlSource",
    "Training",
    "Triggers",
    "load_recipe",
    "load_search",
]
