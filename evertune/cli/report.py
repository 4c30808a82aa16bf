"""`evertune report`: a model's whole history on one page."""

import webbrowser
from pathlib import Path

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import make_console


@click.command()
@options.recipe
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: report.html in the home.")
@click.option("--open", "shown", is_flag=True, help="Open the page in the browser.")
@options.as_json
def report(recipe: str, output: Path | None, shown: bool, as_json: bool) -> None:
    """Write a model's whole history as one HTML page: champion over time, every decision, data, drift, cost."""
    from evertune.config import load_recipe
    from evertune.errors import RegistryError
    from evertune.registry.decisions.history import build_history
    from evertune.report.pages import history
    from evertune.runtime.home import home_of

    loaded = load_recipe(recipe, for_data=False)
    home = home_of(loaded)
    history_data = build_history(loaded, home)
    if not history_data["decisions"] and not history_data["trainings"]:
        raise RegistryError(f"{loaded.registered_name} has no history yet; `evertune run {recipe}` begins one")
    page = history.write_history_page((output or home.model / "report.html").resolve(), history_data)
    if as_json:
        show_json({**history_data, "report": str(page)})
    else:
        make_console().print(f"look at   {page}", markup=False)
    if shown:
        webbrowser.open(page.as_uri())
