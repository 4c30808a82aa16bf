"""The run's report page and its pictures."""

from evertune.report.document import page
from evertune.report.drawing import pictures

__all__ = ["page", "pictures"]
