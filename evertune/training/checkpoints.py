"""Complete checkpoints: sealed when written, checked before they are used."""

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from evertune.records import file_digest
from evertune.runtime.files import read_json, write_json
from evertune.training.distributed import process_group

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)
SEAL = "evertune-seal.json"


class CheckpointSeal(TrainerCallback):
    """Records the files of each checkpoint and their digests once all of them are written."""

    def on_save(self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: object) -> None:
        process_group.barrier()  # wait until each process has written the state of its generator
        if process_group.get_rank():
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_json(folder / SEAL, {file.name: file_digest(file) for file in folder.iterdir() if file.is_file()})


def find_newest(folder: Path) -> str | None:
    """Return the newest complete checkpoint; incomplete ones are removed, or the Trainer would fail on them."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step_of, reverse=True):
        if _is_complete(checkpoint):
            logger.info("training resumes from step %s", _step_of(checkpoint))
            return str(checkpoint)
        logger.warning(
            "%s is incomplete (interrupted while it was written, or damaged) and is removed", checkpoint.name
        )
        shutil.rmtree(checkpoint)
    return None


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_complete(checkpoint: Path) -> bool:
    try:
        digests = read_json(checkpoint / SEAL) or {}
        return bool(digests) and all(file_digest(checkpoint / name) == expected for name, expected in digests.items())
    except (OSError, ValueError):  # a missing file, a truncated seal
        return False
