"""`evertune report`: a model's whole history on one page."""

import webbrowser
from pathlib import Path

import click

from evertune.cli import options, show_json
from evertune.cli.terminal import console


@click.command()
@options.recipe
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: report.html in the home.")
@click.option("--open", "shown", is_flag=True, help="Open the page in the browser.")
@options.as_json
def report(recipe: str, output: Path | None, shown: bool, as_json: bool) -> None:
    """Write a model's whole history as one HTML page: champion over time, every decision, data, drift, cost."""
    from evertune.config import load
    from evertune.errors import RegistryError
    from evertune.registry.decisions.history import chronicle
    from evertune.report.pages import history
    from evertune.runtime.home import home_of

    loaded = load(recipe, for_data=False)
    home = home_of(loaded)
    told = chronicle(loaded, home)
    if not told["decisions"] and not told["trainings"]:
        raise RegistryError(f"{loaded.registered_name} has no history yet; `evertune run {recipe}` begins one")
    page = history.page((output or home.model / "report.html").resolve(), told)
    if as_json:
        show_json({**told, "report": str(page)})
    else:
        console().print(f"look at   {page}", markup=False)
    if shown:
        webbrowser.open(page.as_uri())
