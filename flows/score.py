"""The score flow: the champion's predictions for a file."""

import contextlib
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from evertune.config import Recipe, load_recipe
from evertune.data.sources import read as sources
from evertune.errors import RegistryError
from evertune.objectives import load_objective
from evertune.records import Scores
from evertune.registry.versions import versions
from evertune.runtime import job_slots
from evertune.runtime.home import home_of
from evertune.serving import scoring
from flows.naming import recipe_name
from tasks import engine
from tasks.progress import show_progress


@flow(name="score", flow_run_name=recipe_name)
def score(recipe: Recipe | str, input: str, output: str, encoding: str | None = None) -> Scores:
    """Predict every row of a file with the champion.

    Args:
        recipe: a recipe, or the path of its YAML file.
        input: CSV, TSV, JSON Lines or Parquet.
        output: `.csv`, `.jsonl` or `.parquet`.
        encoding: of a text file. Default: that of the recipe's files.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    return predict(recipe, input, output, encoding)


@task(task_run_name="predict", cache_policy=NO_CACHE)
def predict(recipe: Recipe, input: str, output: str, encoding: str | None = None) -> Scores:
    """Read, predict and write chunk by chunk: in a job slot of this host, or on the Dask cluster.

    Raises:
        ConfigError: the output is the input file, or its extension is unknown.
        DataError: the input cannot be read, or the output cannot be written.
        RegistryError: there is no champion, or it cannot be read.
    """
    scoring.check_paths(Path(input), Path(output))
    home = home_of(recipe)
    name = recipe.registered_name
    version = versions.find_champion(home, name)
    if version is None:
        raise RegistryError(
            f"{name} has no champion yet; make one with `evertune run`, or see `evertune history` for why there is none"
        )
    folder = versions.fetch_bundle(home, name, version)
    column = " or ".join(map(recipe.column, load_objective(recipe.objective.type).INPUTS))
    chunks = sources.read_inputs(input, recipe, encoding)
    with show_progress("scoring") as advance:
        if engine.find_cluster() is None:
            with job_slots.hold_slot(recipe.name):
                return scoring.score_file(folder, version, chunks, column, Path(output), advance)
        score_jobs = ({"folder": folder, "version": version, "chunk": chunk, "column": column} for chunk in chunks)
        with contextlib.closing(engine.spread_jobs(scoring.score_chunk, score_jobs)) as tables:
            return scoring.write_tables(tables, Path(output), version, advance)
