"""Start the processes of a training on this machine as `torchrun` does, and report how they ended."""

import gc
import os
import sys
from collections.abc import Mapping

from evertune.runtime import ipc


def count_machines(environment: Mapping[str, str], processes: int) -> int:
    """Return how many machines train together, from the rendezvous variables of `torchrun` or a cluster's scheduler.

    Args:
        environment: variables.
        processes: processes on each machine, if LOCAL_WORLD_SIZE is not set.
    """
    if "PET_NNODES" in environment:
        return int(environment["PET_NNODES"].rpartition(":")[2])
    if "MASTER_ADDR" not in environment:
        return 1
    return int(environment.get("WORLD_SIZE", processes)) // int(environment.get("LOCAL_WORLD_SIZE", processes))


def rendezvous_options(environment: Mapping[str, str], processes: int) -> list[str]:
    """Return the options that tell `torchrun` where the machines meet; it reads its own `PET_` variables itself."""
    count = count_machines(environment, processes)
    if count <= 1:
        return ["--nnodes", "1", "--local-addr", "127.0.0.1"]
    if "PET_NNODES" in environment:
        return []
    rank = int(environment.get("RANK", 0)) // int(environment.get("LOCAL_WORLD_SIZE", processes))
    return [
        "--nnodes",
        str(count),
        "--node-rank",
        str(rank),
        "--master-addr",
        environment["MASTER_ADDR"],
        "--master-port",
        environment.get("MASTER_PORT", "29500"),
    ]


def main(order: str, processes: str) -> None:
    """Start the processes, and wait until all have ended, or one has failed and the others were ended.

    Args:
        order: path of the order.
        processes: their number.
    """
    gc.set_threshold(100_000)  # collecting during large imports took a quarter of their time
    ipc.watch_parent(stdin=True)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    rendezvous_arguments = rendezvous_options(os.environ, int(processes))
    arguments = [
        "--nproc-per-node",
        processes,
        *rendezvous_arguments,
        "-m",
        "evertune.training.distributed.worker",
        order,
    ]
    try:
        run.run(run.parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        ipc.make_sender(1)(ended=[[rank, failure.exitcode] for rank, failure in error.failures.items()])
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
