"""One process of a training, started by `torchrun`: `-m evertune.training.worker [ORDER]`."""

import datetime
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.errors import TrainingError
from evertune.runtime import ipc as channel
from evertune.training.distributed import messages as reports

if TYPE_CHECKING:
    from evertune.training.distributed.processes import Order

# Only a machine that is lost without a word is found by it: that a process has died is seen at once. Longer than any
# wait for rank 0, which writes checkpoints.
PATIENCE = datetime.timedelta(hours=2)


def main(given: list[str]) -> None:
    """Take part in a training.

    Args:
        given: path of the order; nothing on a machine that only helps, where rank 0 tells what to do.
    """
    channel.watch(stdin=bool(given))
    tell = channel.reserved() if given else _nobody
    logging.basicConfig(level=logging.WARNING)
    try:
        _take_part(given, tell)
    except Exception as error:
        traceback.print_exc(file=sys.__stderr__)
        tell(failed=reports.described(error, int(os.environ["RANK"])))
        os._exit(1)  # threads that wait for the other processes would hold an orderly end up


def _nobody(**_: Any) -> None:
    """Hears nothing."""


def _take_part(given: list[str], tell: channel.Tell) -> None:
    import torch
    from torch import distributed

    from evertune.training.distributed import process_group as sharing
    from evertune.training.distributed import processes

    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE)
    text = sharing.told(lambda: Path(given[0]).read_text(encoding="utf-8") if given else None)
    if text is None:
        raise TrainingError(
            "rank 0 is on a machine that only helps; give the one where `evertune run` runs PET_NODE_RANK=0"
        )
    order = processes.from_json(text)
    if sharing.rank() == 0:
        _speak(order, tell)
    facts = _train(order, tell)
    distributed.destroy_process_group()
    if facts is not None:
        tell(done=facts)


def _speak(order: "Order", tell: channel.Tell) -> None:
    """What rank 0 logs and draws is seen where the training was started."""
    logger = logging.getLogger("evertune")
    logger.setLevel(order.level)
    logger.propagate = False
    logger.addHandler(channel.Lines(tell))
    sys.stderr = channel.Screen(tell, order.terminal)


def _train(order: "Order", tell: channel.Tell) -> dict[str, Any] | None:
    from evertune.tokenization import tokenize as tokenization
    from evertune.training.distributed import process_group as sharing
    from evertune.training.distributed import processes
    from evertune.training.finetune import train

    rows = processes.read_rows(order.rows)
    log = (lambda metrics, step: tell(metrics=dict(metrics), step=step)) if sharing.rank() == 0 else lambda *_: None
    return train(
        order.recipe, order.home, order.tokens, tokenization.load(order.tokens, rows), rows, order.run_id, order.folder,
        log, order.champion, order.since,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
