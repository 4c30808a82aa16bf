"""The run's report page, its pictures, and the model card beside it."""

from evertune.report.charts import draw_pictures
from evertune.report.model_card import write_card
from evertune.report.pages.run import write_run_page

__all__ = ["draw_pictures", "write_card", "write_run_page"]
