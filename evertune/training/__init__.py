"""Fine-tuning: build a model, fit it with the Hugging Face Trainer, resume where a crash left it, bundle the result."""

from evertune.training.finetune import STEP_VERSION, finetune, fingerprint, run_folder
from evertune.training.row_selection import lacking

__all__ = ["STEP_VERSION", "finetune", "fingerprint", "lacking", "run_folder"]
