"""The base of every section of a recipe (frozen, no unknown keys), and `${NAME}` placeholders."""

import os
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from evertune.errors import ConfigError

SECRET = "secret"  # type of an error whose message must not show the value
# user:password@ but not host:5432/; a user of a web address, who is a token; or a parameter, of ODBC inside one too
LITERAL_PASSWORD = re.compile(
    r"(?i)://[^:/@]*:(?!\d+/)[^@]+@|https?://[^:/@?#\s]+@"
    r"|(?:[?&;#]|%3B)(?:[\w-]*(?:password|passwd|pwd|secret|token|signature|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credential)|sig|key|auth|authorization|x-amz-\w+)(?:=|%3D)[^&;%]"
)
PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Section(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def expand_variables(text: str) -> str:
    """Replace `${NAME}` by the environment's value, and `${NAME:-default}` by the default where NAME is not set.

    A recipe keeps its placeholders until the moment of use, so that no secret is ever stored or logged with it.

    Raises:
        ConfigError: a variable without a default is not set.
    """

    def look_up(match: re.Match[str]) -> str:
        name, default = match.groups()
        setting = os.environ.get(name) or default
        if setting is None:
            raise ConfigError(f"the environment variable {name} is not set; export it and try again")
        return setting

    return PLACEHOLDER.sub(look_up, text)


def _refuse_password(url: str) -> str:
    bare = PLACEHOLDER.sub(lambda match: "" if match[2] is None else match[2], url)
    if LITERAL_PASSWORD.search(bare):
        raise PydanticCustomError(
            SECRET, "contains a password, and recipes are logged; write `${NAME}` and export NAME"
        )
    return url


Url = Annotated[str, AfterValidator(_refuse_password)]  # or a path; a recipe never holds a password


def find_unset(text: str) -> list[str]:
    """Return the names of the placeholders in `text` that have neither a value nor a default."""
    return [name for name, default in PLACEHOLDER.findall(text) if not default and not os.environ.get(name)]
