"""Checkpoints that are whole: sealed when written, checked before they are used."""

import logging
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from evertune.records import file_digest
from evertune.runtime.files import read_json, write_json
from evertune.training.distributed import process_group

logger = logging.getLogger(__name__)
SEAL = "evertune-seal.json"


class CheckpointSeal(TrainerCallback):
    """Notes the files of each checkpoint and their digests once all of them are written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        process_group.barrier()  # each process has written the state of its generator
        if process_group.get_rank():
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_json(folder / SEAL, {file.name: file_digest(file) for file in folder.iterdir() if file.is_file()})


def find_newest(folder: Path) -> str | None:
    """The newest checkpoint that is whole; broken ones are removed, or the Trainer would stumble over them."""
    checkpoints = sorted(
        folder.glob("checkpoint-*"),
        key=lambda checkpoint_path: int(checkpoint_path.name.rpartition("-")[2]),
        reverse=True,
    )
    for checkpoint in checkpoints:
        if _is_whole(checkpoint):
            logger.info("training goes on from step %s", checkpoint.name.rpartition("-")[2])
            return str(checkpoint)
        logger.warning("%s is not whole (cut off while it was written, or damaged) and is left out", checkpoint.name)
        shutil.rmtree(checkpoint)
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        digests = read_json(checkpoint / SEAL) or {}
        return bool(digests) and all(file_digest(checkpoint / name) == expected for name, expected in digests.items())
    except (OSError, ValueError):  # a file that is gone, a seal that is cut
        return False
