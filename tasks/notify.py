"""Notifications. Only here do targets become addresses, from environment variables or Prefect blocks."""

import contextlib
import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple, ParamSpec, TypeVar

from evertune.config import Recipe, load_recipe
from evertune.data.contract.judge import BatchStoppedError
from evertune.errors import ConfigError
from evertune.notify import delivery, notices
from evertune.notify.notices import Notice
from evertune.runtime.home import home_of

logger = logging.getLogger("evertune.step")  # as `tasks.step.logger`, whose module imports Prefect
P = ParamSpec("P")
R = TypeVar("R")
BLOCK = "a Prefect block"
watched: ContextVar[bool] = ContextVar("watched", default=False)  # an outer block notifies of errors


class TargetStatus(NamedTuple):
    """The result for one target.

    Args:
        target: as written in the recipe.
        kind: of the service, such as `Slack`.
        problem: why no notice can be sent there; None without a problem.
    """

    target: str
    kind: str
    problem: str | None = None


def send_notice(recipe: Recipe, notice: Notice) -> None:
    """Send a notice to every target, if the recipe asks for its event and it was not sent before.

    A target that cannot be reached gives a warning and does not fail the run. If the process is killed after sending
    and before that is recorded, the next run sends the notice again.
    """
    if not recipe.notify.targets or not set(notice.events) & set(recipe.notify.events):
        return
    home = home_of(recipe)
    if notice.key is not None and delivery.was_sent(home, notice.key):
        logger.info("notify: this notice was sent before")
        return
    for status in send_to_targets(recipe, notice):
        if status.problem is None:
            logger.info("notify: sent to %s (%s)", status.kind, status.target)
        else:
            logger.warning("notify: not sent to %s (%s): %s", status.kind, status.target, status.problem)
    if notice.key is not None:
        delivery.note_sent(home, notice.key)


def send_to_targets(recipe: Recipe, notice: Notice) -> list[TargetStatus]:
    """Send a notice to each target, one after the other, and return the results."""
    return [_send_to_target(target, recipe, notice) for target in recipe.notify.targets]


def describe_targets(recipe: Recipe) -> list[TargetStatus]:
    """Return where notices would go; a Prefect block is read only when a notice is sent."""
    return [_describe_target(target) for target in recipe.notify.targets]


def _send_to_target(target: str, recipe: Recipe, notice: Notice) -> TargetStatus:
    status = _describe_target(target)
    if status.problem is not None:
        return status
    try:
        address = _resolve_address(target)
    except ConfigError as error:
        return status._replace(problem=str(error))
    problem = delivery.send_notice(address, notice, recipe.notify.timeout)
    return TargetStatus(status.target, delivery.find_service_name(address) or status.kind, problem)


def _describe_target(target: str) -> TargetStatus:
    if target.startswith("block:"):
        return TargetStatus(target, BLOCK)
    try:
        kind = delivery.find_service_name(_resolve_address(target))
    except ConfigError as error:
        return TargetStatus(target, "an unknown service", str(error))
    return TargetStatus(target, kind or "an unknown service", None if kind else delivery.UNKNOWN)


@contextlib.contextmanager
def notify_failures(recipe: Recipe | str, overrides: Sequence[str], job: str) -> Iterator[None]:
    """Send one notice of an error that ends the block; none if the recipe itself cannot be read.

    Args:
        recipe: a recipe, or the path of its YAML file.
        overrides: `a.b=value` each.
        job: the flow's name.
    """
    if watched.get():
        yield
        return
    token = watched.set(True)
    try:
        yield
    except Exception as error:
        if isinstance(recipe, str):
            try:
                # Not for data: the error may be a missing secret of a source.
                recipe = load_recipe(recipe, overrides, for_data=False)
            except ConfigError:
                raise error from None
        send_notice(recipe, _build_notice(recipe, error, job))
        raise
    finally:
        watched.reset(token)


def _build_notice(recipe: Recipe, error: Exception, job: str) -> Notice:
    if isinstance(error, BatchStoppedError):
        return notices.describe_stopped_batch(recipe, error.summary)
    return notices.describe_failure(recipe, error, job)


def notify_on_failure(flow: Callable[P, R]) -> Callable[P, R]:
    """Make a flow's function send a notice when it ends with an error."""

    @functools.wraps(flow)
    def run_flow(*args: P.args, **kwargs: P.kwargs) -> R:
        arguments = inspect.signature(flow).bind(*args, **kwargs).arguments
        with notify_failures(arguments["recipe"], arguments.get("overrides") or [], flow.__name__):
            return flow(*args, **kwargs)

    return run_flow


def _resolve_address(target: str) -> str:
    """Return the Apprise URL of a target.

    Raises:
        ConfigError: the environment variable is not set, or there is no such block.
    """
    if not target.startswith("block:"):
        name = target[2:-1]
        if not os.environ.get(name):
            raise ConfigError(f"the environment variable {name} is not set; set it to an Apprise URL")
        return os.environ[name]
    name = target.removeprefix("block:")
    return _read_block(name if "/" in name else f"secret/{name}")


def _read_block(slug: str) -> str:
    from prefect.blocks.core import Block
    from prefect.blocks.notifications import AppriseNotificationBlock
    from prefect.blocks.system import Secret

    try:
        block = Block.load(slug, _sync=True)  # type: ignore[call-arg]  # in a running event loop too: a notebook has one
    except Exception as error:  # of the server, the connection or the block; its message may show the secret
        raise ConfigError(
            f"the Prefect block {slug} cannot be read ({type(error).__name__}); list all blocks with `prefect block ls`"
        ) from None
    if isinstance(block, Secret):
        return str(block.get())
    if isinstance(block, AppriseNotificationBlock):
        return block.url.get_secret_value()
    raise ConfigError(f"the Prefect block {slug} has no address; store the Apprise URL in a Secret block")
