"""Generates docs/reference/environment.md: every environment variable that Evertune reads."""

# ruff: noqa: E501 (a table cell must stay on one line)

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r'"(EVERTUNE_[A-Z_]+)"')

HEAD = """# Environment variables

A recipe holds no secret and no machine's address. Those come from the environment:

```console
$ export EVERTUNE_HOME=/srv/evertune
$ export MLFLOW_TRACKING_URI=https://mlflow.example.com
$ evertune run my-model.yaml
```

A recipe reads any variable as `${NAME}`, or as `${NAME:-default}`:

```yaml
data:
  sources: [{path: "${EVERTUNE_DATA:-data}/tickets/*.csv"}]
```

"""

# variable -> (meaning, default)
EVERTUNE_VARIABLES = {
    "EVERTUNE_HOME": (
        "Folder of all state ([home](home.md)).",
        "`.evertune` in the nearest folder at or above the recipe that has `.evertune` or `.git`",
    ),
    "EVERTUNE_USER": ("Name that the ledger keeps for a decision or a move.", "the login name"),
    "EVERTUNE_JOBS": (
        "Jobs that may compute on this host at a time; 0 means no limit.",
        "1 on a host with a GPU, else no limit",
    ),
    "EVERTUNE_DASK": (
        "Address of a Dask scheduler, such as `tcp://10.0.0.7:8786`. Validation, tokenization and scoring then run on its workers.",
        "work runs in this process",
    ),
    "EVERTUNE_BASE_MODEL": (
        "Folder of the base model of an adapter, where it is not at its recorded place. Its weights must be the same.",
        "the recorded place",
    ),
    "EVERTUNE_ALLOWED_HOSTS": (
        "Host names, with commas between, under which the Prefect server of `evertune up` may be reached, such as a proxy's.",
        "127.0.0.1 and localhost",
    ),
    "EVERTUNE_PROJECT": (
        "Folder that holds `configs/`; `deployments/prefect.yaml` reads it. `evertune up` sets it.",
        "none",
    ),
    "EVERTUNE_DATA": ("Folder of the public data sets of the shipped recipes.", "`../shared/data` beside the project"),
}

# section -> variables -> (meaning, default)
OTHER_VARIABLES = {
    "MLflow": {
        "MLFLOW_TRACKING_URI": ("MLflow's server or store.", "SQLite in the home"),
        "MLFLOW_REGISTRY_URI": ("Registry, if it is another one.", "the tracking store"),
        "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN": (
            "Credentials; MLflow reads them. They never appear in messages.",
            "none",
        ),
    },
    "Prefect": {
        "PREFECT_API_URL": ("Prefect's server.", "a temporary server for each command"),
        "PREFECT_SERVER_API_AUTH_STRING": (
            "Key of a Prefect server that is started here (`user:password`).",
            "a random key, in `prefect-key` of the home",
        ),
        "PREFECT_UI_API_URL": ("Address of the API for the server's page, behind a proxy.", "the server's own"),
        "PREFECT_API_KEY, PREFECT_API_AUTH_STRING": (
            "Credentials; Prefect reads them. They never appear in messages.",
            "none",
        ),
        "PREFECT_HOME": ("Prefect's folder; two `evertune up` at once need one each.", "`~/.prefect`"),
        "PREFECT_LOGGING_LEVEL": ("Log level of Prefect.", "`CRITICAL` at a terminal, `DEBUG` with `--debug`"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": (
            "Loggers that Prefect shows; must name `evertune` on workers of your own.",
            "`evertune`",
        ),
        "PREFECT_WORKER_QUERY_SECONDS": ("How often the worker of `evertune up` looks for runs.", "`5`"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": ("How long a temporary server may take to start.", "`60`"),
    },
    "Threads and processes": {
        "OMP_NUM_THREADS": (
            "Threads of a training. With `training.processes`, they are divided among the processes.",
            "all cores",
        ),
        "OMP_WAIT_POLICY": ("How idle threads wait. `ACTIVE` slows several processes on one machine.", "`PASSIVE`"),
        "TMPDIR": ("Folder for temporary files, and for the locks of EVERTUNE_JOBS.", "the system's"),
    },
    "Several machines": {
        "PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT, PET_RDZV_CONF": (
            "Where the machines of one training meet, as `torchrun` names it.",
            "one machine",
        ),
        "MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK, LOCAL_WORLD_SIZE": (
            "The same, as schedulers set it. Read where PET_NNODES is not set.",
            "one machine",
        ),
        "GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME": (
            "Network interface of gloo and nccl; torch reads them.",
            "by host name",
        ),
    },
    "Hugging Face": {
        "HF_HUB_OFFLINE": ("`1` forbids downloads. The parity check always runs with `1`.", "downloads are allowed"),
        "HF_HOME": ("Cache of models and data sets; `huggingface_hub` reads it.", "`~/.cache/huggingface`"),
    },
}

TAIL = """## EVERTUNE_JOBS: one job at a time

On a host with a GPU one of these computes at a time: a training, scoring of test rows, `evertune score`, a look for drift, or a step
of a backtest. The others wait and say for whom:

```text
jobs at a time on this host: 1 (EVERTUNE_JOBS); invoices waits for recipe tickets, process 4711, since 2026-11-22 03:00:12 UTC
```

Reading, judging and tokenizing go on meanwhile. The setting belongs to the host, not to a recipe. Each place is a locked file in
`$TMPDIR/evertune-jobs/`. It is free as soon as its holder's process is gone, even after `kill -9`. Containers share the places if
they share that folder.

```console
$ EVERTUNE_JOBS=2 evertune run my-model.yaml
```

Of one recipe, one run is at work at a time, whatever EVERTUNE_JOBS says. A second one that a person starts ends after two seconds
with exit code 5. One that a deployment starts waits.

## EVERTUNE_DASK: a cluster

```console
$ EVERTUNE_DASK=tcp://127.0.0.1:8786 evertune score my-model.yaml --input in.csv --output out.csv
```

| step | what the workers do |
|---|---|
| validate | judge batches of more than 25,000 rows, a chunk of as many each; what needs the whole batch stays with the step |
| tokenize | write the token files, a part of a batch each |
| score | predict chunks of 10,000 rows |

The output is the same, in the order of the rows. At most two chunks a worker are under way. If a worker dies, another takes its
chunks, and each is taken once. Workers need the same Evertune, the home at the same path, and PREFECT_API_URL.

## Set by Evertune

Evertune sets these for its own process where you have not set them. They switch off telemetry and the libraries' own progress bars.

```bash
DO_NOT_TRACK=true
PREFECT_SERVER_ANALYTICS_ENABLED=false
HF_HUB_DISABLE_TELEMETRY=1
HF_HUB_DISABLE_PROGRESS_BARS=1
TQDM_DISABLE=1
TRANSFORMERS_VERBOSITY=error
MLFLOW_LOGGING_LEVEL=WARNING
MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false
MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT=true
OMP_WAIT_POLICY=PASSIVE
```

`evertune up` also sets `MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false`, which saves eight processes.
"""


def page() -> str:
    """Return the page as Markdown.

    Raises:
        KeyError: the code reads a variable of Evertune's that this page does not explain.
    """
    missing_names = sorted(find_variables() - set(EVERTUNE_VARIABLES))
    if missing_names:
        raise KeyError(f"docs/generate/environment.py has no line for {', '.join(missing_names)}")
    parts = [HEAD, *render_table("Evertune", EVERTUNE_VARIABLES)]
    for title, variables in OTHER_VARIABLES.items():
        parts += render_table(title, variables)
    return "".join(parts) + TAIL


def render_table(title: str, variables: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yield a section with a table of variables; variables of one meaning share a row."""
    yield f"## {title}\n\n| variable | meaning | default |\n|---|---|---|\n"
    for names, (meaning, default) in variables.items():
        quoted_names = ", ".join(f"`{name}`" for name in names.split(", "))
        yield f"| {quoted_names} | {meaning} | {default} |\n"
    yield "\n"


def find_variables() -> set[str]:
    """Return the names of Evertune's variables that occur in the code."""
    names: set[str] = set()
    for folder in ("evertune", "flows", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            names.update(VARIABLE.findall(path.read_text(encoding="utf-8")))
    return names
