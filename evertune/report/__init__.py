"""The run's report page, its pictures, and the model card beside it."""

from evertune.report.charts import pictures
from evertune.report.model_card import card
from evertune.report.pages.run import page

__all__ = ["card", "page", "pictures"]
