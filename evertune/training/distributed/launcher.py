"""Starts the processes of a training on this machine as `torchrun` does, and tells how they ended."""

import os
import sys
from collections.abc import Mapping

from evertune.runtime import ipc


def count_machines(environment: Mapping[str, str], processes: int) -> int:
    """How many machines train together, by the rendezvous variables of `torchrun` or of a cluster's scheduler.

    Args:
        processes: on each machine, where LOCAL_WORLD_SIZE does not say so.
    """
    if "PET_NNODES" in environment:
        return int(environment["PET_NNODES"].rpartition(":")[2])
    if "MASTER_ADDR" not in environment:
        return 1
    return int(environment.get("WORLD_SIZE", processes)) // int(environment.get("LOCAL_WORLD_SIZE", processes))


def rendezvous_options(environment: Mapping[str, str], processes: int) -> list[str]:
    """Options that tell `torchrun` where the machines meet; its own variables (`PET_...`) it reads itself."""
    if (count := count_machines(environment, processes)) <= 1:
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
    """Start them, and wait until all have ended, or one has failed and the others were ended."""
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
