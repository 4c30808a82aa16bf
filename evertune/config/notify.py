"""The recipe's `notify` section: who is notified of what."""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from evertune.config.base import SECRET, Section

Event = Literal["promoted", "held", "waiting", "rejected", "failed", "quarantine", "drift"]
TARGET = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|block:(?:[a-z0-9-]+/)?[a-z0-9-]+")


def _check_target_name(target: str) -> str:
    if not TARGET.fullmatch(target):
        raise PydanticCustomError(
            SECRET,
            "an address of people is a secret, and recipes are logged: write `${NAME}` and export NAME with the "
            "address, or `block:NAME` for a Prefect Secret block of that name (docs/how-to/get-notified.md)",
        )
    return target


class Notify(Section):
    """Who is notified of how a run ended: people and channels, through Apprise."""

    targets: list[Annotated[str, AfterValidator(_check_target_name)]] = Field(
        default_factory=list,
        description="`${NAME}`: an Apprise URL from an environment variable; `block:NAME`: one from a Prefect Secret "
        "block; `block:TYPE/NAME`: a notification block, such as `block:slack-webhook/ops`.",
    )
    events: list[Event] = Field(
        list(get_args(Event)),
        description="Events to notify of. `waiting`: a challenger waits for approval; `failed`: a run ended with an "
        "error; `quarantine`: a batch was stopped because more rows were refused than `contract.tolerance` allows; "
        "`drift`: `evertune monitor` found drift.",
    )
    timeout: float = Field(10, ge=1, le=120, description="Seconds to wait for a target before the run goes on.")

    @field_validator("targets", mode="before")
    @classmethod
    def _are_a_list(cls, targets: object) -> object:
        if isinstance(targets, str):  # pydantic's own error would show the value
            raise PydanticCustomError(SECRET, 'must be a list, such as `["${OPS_MAIL}"]`')
        return targets
