"""The templates of the pages: view data in, one self-contained HTML file out."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evertune.report.view import Head
from evertune.runtime.files import write_atomic

JOINT = re.compile(r"(?<=[_=/.-])")


def write_page(path: Path, template: str, head: Head, view: object) -> Path:
    """Write a page as one HTML file: no script, nothing fetched, every value escaped.

    Args:
        template: its name, such as `run.html.j2`; head, view: the data that it shows.
    Raises:
        OSError: the page cannot be written.
    """
    write_atomic(path, load_environment().get_template(template).render(head=head, view=view))
    return path


@cache
def load_environment() -> Environment:
    """Return the environment of the HTML templates."""
    environment = Environment(
        loader=PackageLoader("evertune.report"),
        autoescape=True,  # whatever a template is called: no text of a user's becomes markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = _make_breakable
    environment.filters["anchor"] = _make_anchor
    environment.globals["style"] = Markup(files("evertune.report").joinpath("templates/style.css").read_text("utf-8"))
    return environment


def _make_breakable(name: str) -> Markup:
    """A long name may break after its joints."""
    return Markup("<wbr>").join(JOINT.split(name))


def _make_anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
