"""The verdict sent through Prefect's notification blocks. What is secret stays in the blocks."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block, UnknownBlockType
from prefect.client.orchestration import SyncPrefectClient, get_client

from shoes.errors import ConfigurationError, Problem, TransientError

HOW = "make one in Prefect's dashboard under Blocks, or with `prefect block create TYPE`"


def notify(names: Sequence[str], subject: str, body: str) -> None:
    """Send a text through blocks, each named TYPE/NAME such as slack-webhook/team.

    Raises:
        ConfigurationError: what is no notification block, all of them together, with those that there are.
        TransientError: a service did not take it; the reason without what the block keeps secret.
    """
    found = {name: _load(name) for name in names}
    wrong = {name: what for name, what in found.items() if isinstance(what, str)}
    if wrong:
        fix = _fix(existing())
        raise ConfigurationError([Problem(name, what, fix) for name, what in wrong.items()])
    for name, block in found.items():
        if isinstance(block, NotificationBlock):
            _send(block, name, subject, body)


def _send(block: NotificationBlock, name: str, subject: str, body: str) -> None:
    try:
        with block.raise_on_failure(), _quiet():
            block.notify(body=body, subject=subject)
    except Exception as error:  # noqa: BLE001 - each block has a client of its own, whose errors hold addresses
        raise TransientError(f"{name} did not take the message: {_reason(error)}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The clients write addresses into their logs."""
    loggers = [logging.getLogger(name) for name in ("httpx", "httpcore", "apprise")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    """What went wrong, in words that hold no address: a webhook's address is its secret."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return (
        f"it answered with status {status}"
        if status
        else f"it can't be reached, or refused it ({type(error).__name__})"
    )


def _load(name: str) -> NotificationBlock | str:
    """The block, or what is wrong with its name."""
    if name.count("/") != 1:
        return "is no block: a block is named TYPE/NAME, for example slack-webhook/team"
    try:
        block = Block.load(name)
    except UnknownBlockType:
        return "belongs to an integration of Prefect that is not installed here"
    except ValueError:
        return "is no block of this Prefect server"
    if not isinstance(block, NotificationBlock):
        return f"is a block of type {block.get_block_type_slug()}, which sends no notifications"
    return block


def _fix(names: Sequence[str]) -> str:
    return (
        f"there {'are' if len(names) > 1 else 'is'} {', '.join(names)}; {HOW}" if names else f"there is none yet; {HOW}"
    )


def require_blocks(client: SyncPrefectClient, names: Sequence[str]) -> dict[str, UUID]:
    """The ids of notification blocks by their names, TYPE/NAME; nothing of what they keep is read.

    Raises:
        ConfigurationError: what is no notification block of the server, all of them together.
    """
    if not names:
        return {}
    known = _known(client)
    wrong = [name for name in names if name not in known]
    if wrong:
        fix = f"in SHOES_NOTIFY: {_fix(sorted(known))}"
        raise ConfigurationError([Problem(name, "is no notification block of this server", fix) for name in wrong])
    return {name: known[name] for name in names}


def existing() -> list[str]:
    """Notification blocks that this Prefect server has, as TYPE/NAME."""
    with get_client(sync_client=True) as client:
        return sorted(_known(client))


def _known(client: SyncPrefectClient) -> dict[str, UUID]:
    return {
        f"{document.block_type.slug}/{document.name}": document.id
        for document in client.read_block_documents(include_secrets=False)
        if document.name and document.block_type and "notify" in (document.block_schema.capabilities or ())
    }
