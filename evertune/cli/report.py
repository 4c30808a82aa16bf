"""`evertune report`: a model's history on one page."""

import webbrowser
from pathlib import Path

import click

from evertune.cli import common
from evertune.cli.terminal import make_console
from evertune.runtime.context import open_context


@click.command()
@common.recipe
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page. Default: report.html in the home.",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@common.as_json
def report(recipe: str, output: Path | None, show: bool, as_json: bool) -> None:
    """Write a model's history as one HTML page: champion over time, every decision, data, drift, cost."""
    from evertune.config import load_recipe
    from evertune.errors import RegistryError
    from evertune.registry.decisions.history import build_history
    from evertune.report.pages import history

    loaded = load_recipe(recipe, for_data=False)
    context = open_context(loaded)
    history_data = build_history(context)
    if not history_data["decisions"] and not history_data["trainings"]:
        raise RegistryError(f"{loaded.registered_name} has no history yet; `evertune run {recipe}` starts one")
    page = history.write_history_page((output or context.home.model / "report.html").resolve(), history_data)
    if as_json:
        common.show_json({**history_data, "report": str(page)})
    else:
        make_console().print(f"report    {page}", markup=False)
    if show:
        webbrowser.open(page.as_uri())
