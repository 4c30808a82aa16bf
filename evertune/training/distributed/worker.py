"""One process of a training, started by `torchrun`: `-m evertune.training.distributed.worker [ORDER]`."""

import datetime
import gc
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.errors import TrainingError
from evertune.runtime import ipc
from evertune.runtime.context import RunContext
from evertune.training.distributed import messages

if TYPE_CHECKING:
    from evertune.training.distributed.processes import TrainingOrder
    from evertune.training.finetune import TrainingFacts

# Only detects a machine that is lost silently: the death of a process is seen at once. Longer than any wait for rank 0
# while it writes checkpoints.
PATIENCE = datetime.timedelta(hours=2)


def main(arguments: list[str]) -> None:
    """Take part in a training.

    Args:
        arguments: path of the order; empty on a helper machine, which gets the order from rank 0.
    """
    gc.set_threshold(100_000)  # collecting during large imports took a quarter of their time
    ipc.watch_parent(stdin=bool(arguments))
    tell = ipc.reserve_stdout() if arguments else _send_nothing
    logging.basicConfig(level=logging.WARNING)
    try:
        _take_part(arguments, tell)
    except Exception as error:
        traceback.print_exc(file=sys.__stderr__)
        tell(failed=messages.describe_error(error, int(os.environ["RANK"])))
        os._exit(1)  # threads that wait for the other processes would block a normal exit


def _send_nothing(**_: object) -> None:
    """Send nothing: nobody listens on a helper machine."""


def _take_part(arguments: list[str], tell: ipc.Tell) -> None:
    import torch
    from torch import distributed

    from evertune.training.distributed import process_group, processes

    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE)
    text = process_group.broadcast_from_rank0(
        lambda: Path(arguments[0]).read_text(encoding="utf-8") if arguments else None
    )
    if text is None:
        raise TrainingError(
            "rank 0 is on a helper machine; set PET_NODE_RANK=0 on the machine where `evertune run` runs"
        )
    order = processes.TrainingOrder.from_json(text)
    if process_group.get_rank() == 0:
        _forward_logs(order, tell)
    facts = _run_training(order, tell)
    distributed.destroy_process_group()
    if facts is not None:
        tell(done=facts)


def _forward_logs(order: "TrainingOrder", tell: ipc.Tell) -> None:
    """Send the log and the progress bar of rank 0 to the process that started the training."""
    logger = logging.getLogger("evertune")
    logger.setLevel(order.level)
    logger.propagate = False
    logger.addHandler(ipc.LogSender(tell))
    sys.stderr = ipc.Screen(tell, order.terminal)


def _run_training(order: "TrainingOrder", tell: ipc.Tell) -> "TrainingFacts | None":
    from evertune.tokenization import tokenize
    from evertune.training.distributed import process_group, processes
    from evertune.training.finetune import train_model

    rows = processes.read_rows(order.rows)

    def log(metrics: Mapping[str, float], step: int) -> None:
        if process_group.get_rank() == 0:
            tell(metrics=dict(metrics), step=step)

    return train_model(
        RunContext(order.recipe, order.home),
        order.tokens,
        tokenize.load_tokens(order.tokens, rows),
        rows,
        order.run_id,
        order.folder,
        log,
        order.champion,
        order.since,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
