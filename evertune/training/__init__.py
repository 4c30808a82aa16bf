"""Fine-tuning: build a model, fit it with the Hugging Face Trainer, resume after a crash, bundle the result."""

from evertune.training.finetune import STEP_VERSION, finetune_model, fingerprint_training, run_folder
from evertune.training.row_selection import explain_missing_rows

__all__ = ["STEP_VERSION", "explain_missing_rows", "finetune_model", "fingerprint_training", "run_folder"]
