"""The run's report page, its pictures, and the model card beside it."""

from evertune.report.card import card
from evertune.report.document import page
from evertune.report.drawing import pictures

__all__ = ["card", "page", "pictures"]
