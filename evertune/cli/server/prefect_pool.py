"""The work pool of `evertune up` on a Prefect server: its deployments, and runs that a killed worker left behind."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from evertune.errors import RegistryError

POOL = "evertune"
PREFECT = [sys.executable, "-m", "prefect"]


def register_deployments(prefect_file: Path, environment: Mapping[str, str]) -> None:
    """Create the pool if it is missing, and register every deployment of the file.

    Raises:
        RegistryError: Prefect failed; the message holds its output.
    """
    create = ["work-pool", "create", POOL, "--type", "process"]
    register = ["--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file)]
    for command, accepted_error in ((create, "already exists"), (register, None)):
        process = subprocess.run([*PREFECT, *command], env=environment, capture_output=True, text=True)
        output = process.stdout + process.stderr
        if process.returncode and not (accepted_error and accepted_error in output):
            raise RegistryError(f"`prefect {' '.join(command)}` failed:\n{output.strip()[-2000:]}")


def mark_crashed_runs(url: str, key: str) -> list[str]:
    """Mark the pool's unfinished runs as crashed, because no worker is left to end them, and return their names.

    Otherwise they would hold the deployment's only concurrency slot forever: the leases are in the server's memory, so
    after a restart nothing releases them.

    Args:
        url: of the API.
        key: of the server.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
    from prefect.client.schemas.objects import State
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
    from prefect.states import Crashed

    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
    pool = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
    state: State[None] = Crashed(message="The worker was killed. The next run continues after the last finished step.")
    settings = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: key}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=unfinished, work_pool_filter=pool)
        for run in runs:
            client.set_flow_run_state(run.id, state, force=True)
    return [run.name for run in runs]
