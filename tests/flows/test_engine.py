"""Row-wise work on a Dask cluster of two workers: the same results, and none lost or doubled with a worker."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from evertune.config import Recipe
from evertune.data.contract import batch as judging
from evertune.data.contract import judge as contract
from evertune.data.contract.chunk import check_chunk_remotely
from evertune.data.corpus import delta_tables
from evertune.errors import ConfigError, DataError
from evertune.records import Inputs
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.serving import scoring
from evertune.tokenization import tokenize as tokenization
from tasks import engine
from tasks.step import prepare_run
from tasks.validate import validate
from tests.helpers.dask_jobs import broken, deadly, judged
from tests.helpers.data import good, ingest, run, write_csv
from tests.helpers.data import make_home as home
from tests.helpers.data import make_recipe as data_recipe
from tests.helpers.model import LABELS, recipe, snapshot, table, text_rows
from tests.helpers.paths import PYTHONPATH
from tests.helpers.registry import Shop

pytest.importorskip("prefect_dask", reason="needs the extra evertune[dask]")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scheduler(prefect_server: str) -> Iterator[str]:
    """The address of a cluster of two workers."""
    from distributed import LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_URL: prefect_server}):
        patch.setenv("PREFECT_API_URL", prefect_server)
        patch.setenv("PYTHONPATH", PYTHONPATH, prepend=":")
        with LocalCluster(**options) as made:
            yield made.scheduler_address


@pytest.fixture
def cluster(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERTUNE_DASK", scheduler)


def spread(function: Any, jobs: list[dict[str, Any]]) -> list[Any]:
    return flow(name="spread")(lambda: list(engine.spread_jobs(function, jobs)))()


@pytest.mark.usefixtures("cluster")
def test_a_killed_workers_jobs_are_done_by_another_and_come_once(tmp_path: Path) -> None:
    found = spread(deadly, [{"number": number, "folder": tmp_path} for number in range(12)])
    assert found == list(range(12))
    assert (tmp_path / "killed").exists()
    assert sorted((tmp_path / "begun").read_text().split(), key=int).count("3") == 2


@pytest.mark.usefixtures("cluster")
def test_chunks_are_scored_as_in_one_process(shop: Shop, tmp_path: Path) -> None:
    bundle = Path(shop.candidate().bundle)
    parts = [[f"where is my card {part} {number}" for number in range(part + 1)] + [""] for part in range(6)]
    chunks = [Inputs(part, [None] * len(part), pa.table({"text": part})) for part in parts]
    jobs = [{"folder": bundle, "version": 3, "chunk": chunk, "column": "text"} for chunk in chunks]
    here = tmp_path / "here.jsonl"
    there = tmp_path / "there.jsonl"
    scoring.score_file(bundle, 3, iter(chunks), "text", here, lambda _: None)
    done = scoring.write_tables(spread(scoring.score_chunk, jobs), there, 3, lambda _: None)
    assert (done.rows, done.bad) == (27, 6)
    assert there.read_text() == here.read_text()


@pytest.mark.usefixtures("cluster")
def test_token_files_are_written_as_in_one_process(tiny_model: Path, tmp_path: Path) -> None:
    one = recipe(tiny_model)
    rows = pa.concat_tables([part(number) for number in range(5)])
    here = Home(tmp_path / "here", one.name)
    there = Home(tmp_path / "there", one.name)
    expected = tokenization.tokenize_rows(RunContext(one, here), snapshot(rows, LABELS), rows)
    found = flow(name="tokens")(
        lambda: tokenization.tokenize_rows(RunContext(one, there), snapshot(rows, LABELS), rows, engine.spread_jobs)
    )()
    assert (len(found.files), found.tokens, found.fingerprint) == (5, expected.tokens, expected.fingerprint)
    for file, other in zip(found.files, expected.files, strict=True):
        assert Path(file).read_bytes() == Path(other).read_bytes()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.usefixtures("cluster")
def test_the_validate_step_judges_there_as_in_one_process_though_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (contract, judging):
        monkeypatch.setattr(module, "SENT", 20)
    spread = engine.spread_jobs
    sent = list[int]()

    def killing(function: Any, jobs: Iterable[dict[str, Any]]) -> Iterator[Any]:
        assert function is check_chunk_remotely
        for one in spread(judged, ({**job, "folder": tmp_path} for job in jobs)):
            sent.append(len(one.accepted) + len(one.refused))
            yield one

    monkeypatch.setattr(engine, "spread_jobs", killing)
    here, there = (_batch(tmp_path / name) for name in ("here", "there"))
    run(*here)
    monkeypatch.setenv("EVERTUNE_HOME", str(there[1].root))
    flow(name="judge")(_validated)(*there)
    assert (tmp_path / "killed").exists()
    assert sent == [20, 20, 20, 20, 15]
    for table_of, size in (("corpus", 92), ("quarantine", 3)):
        local, other = (
            delta_tables.read_rows(getattr(one[1], table_of)).sort_by("row_version") for one in (here, there)
        )
        assert len(local) == size
        assert other.equals(local)


def _batch(folder: Path) -> tuple[Recipe, Home]:
    write_csv(folder / "rows.csv", [*good(90), ("cafÃ© ole", "card"), ("", "refund"), ("", "card"), *good(2, 90)])
    return data_recipe(folder, contract={"tolerance": 0.5}), home(folder)


def _validated(one: Recipe, place: Home) -> None:
    prepare_run()
    validate(ingest(one, place), one)


def part(number: int) -> pa.Table:
    """The rows of one part of a batch."""
    known = [{**row, "row_version": f"{number}-{place}", "part": number} for place, row in enumerate(text_rows(20))]
    return table(known)


@pytest.mark.usefixtures("cluster")
def test_an_error_on_a_worker_is_the_error_of_the_job() -> None:
    with pytest.raises(DataError, match="job 0 cannot be done"):
        spread(broken, [{"number": number} for number in range(5)])


def test_a_cluster_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TIMEOUT", 1)
    monkeypatch.setenv("EVERTUNE_DASK", "tcp://127.0.0.1:9")
    with pytest.raises(ConfigError, match="no Dask scheduler answers at tcp://127"):
        list(engine.spread_jobs(broken, []))
