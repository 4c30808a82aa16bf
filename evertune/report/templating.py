"""The templates of pages and model card. Whatever a view holds is written as text, never as markup."""

import math
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
    environment = _make_environment()
    environment.filters["breakable"] = _make_breakable
    environment.filters["anchor"] = _make_anchor
    environment.globals["style"] = Markup(files("evertune.report").joinpath("templates/style.css").read_text("utf-8"))
    return environment


@cache
def load_markdown_environment() -> Environment:
    """Return the environment of the Markdown templates.

    A value loses line breaks, and what could begin a tag or end a cell of a table. The filter `code` leaves a value as
    it is, for blocks of code.
    """
    environment = _make_environment()
    environment.finalize = _make_plain
    environment.filters["code"] = lambda value: Markup(value)
    return environment


def _make_environment() -> Environment:
    return Environment(
        loader=PackageLoader("evertune.report"),
        autoescape=True,  # for all templates, whatever their names end with
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _make_plain(value: object) -> Markup:
    """Return a value as text that neither breaks a table nor becomes markup; floats with four decimals."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("")
    if isinstance(value, float):
        return Markup(f"{value:.4f}" if math.isfinite(value) else "")
    if isinstance(value, int):
        return Markup(f"{value:,}")
    words = " ".join(str(value).split())
    return Markup(words.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;"))


def _make_breakable(name: str) -> Markup:
    """A long name may break after its joints."""
    return Markup("<wbr>").join(JOINT.split(name))


def _make_anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
