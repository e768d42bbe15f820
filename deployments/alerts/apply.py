"""Creates and updates a server's automations. They are matched by name, and changed only if they differ."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple
from uuid import UUID

from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkPool
from prefect.events.schemas.automations import Automation
from prefect.events.schemas.events import matches

from tasks.similar_names import mistyped

Did = Literal["created", "updated", "unchanged"]

_PAGE = 200
_WEBHOOK = "webhook/"
_BLOCK_NAME = re.compile(r"([a-z0-9-]+/)?[a-z0-9-]+")  # as Prefect takes them
_NOT_ITS_CONTENT = {"id", "enabled", "owner_resource"}


class AlertsError(Exception):
    """The automations cannot be created; the message says what to do."""


class Applied(NamedTuple):
    """What was done with an automation."""

    name: str
    did: Did
    paused: bool


def apply(client: SyncPrefectClient, wanted: Iterable[AutomationCore], *, dry_run: bool = False) -> list[Applied]:
    """Create the automations that are missing and update those that differ. Paused ones stay paused.

    Args:
        client: the client of the server.
        wanted: the automations as they should be.
        dry_run: change nothing.

    Returns:
        What was done with each automation, or would be.

    Raises:
        AlertsError: two automations have the same name; nothing was changed.
    """
    pairs = [(automation, _existing(client, automation.name)) for automation in wanted]
    return [_bring(client, automation, existing, dry_run) for automation, existing in pairs]


def _existing(client: SyncPrefectClient, name: str) -> Automation | None:
    matches = client.read_automations_by_name(name)
    if len(matches) > 1:
        raise AlertsError(f"There are {len(matches)} automations named {name!r}. Delete all but one, and start again.")
    return matches[0] if matches else None


def _bring(client: SyncPrefectClient, wanted: AutomationCore, existing: Automation | None, dry_run: bool) -> Applied:
    if existing is None:
        if not dry_run:
            client.create_automation(wanted)
        return Applied(wanted.name, "created", False)
    same = wanted.model_dump(exclude=_NOT_ITS_CONTENT) == existing.model_dump(exclude=_NOT_ITS_CONTENT)
    if not same and not dry_run:
        # Fields that are not set would not be sent, and the server would use its own defaults.
        content = wanted.model_dump(exclude=_NOT_ITS_CONTENT) | {"enabled": existing.enabled}
        client.update_automation(existing.id, AutomationCore.model_validate(content))
    return Applied(wanted.name, "unchanged" if same else "updated", not existing.enabled)


def find_block(client: SyncPrefectClient, name: str | None) -> UUID:
    """Return the id of a notification block.

    Args:
        client: the client of the server.
        name: the block's name, or TYPE/NAME if blocks of several types have that name.

    Raises:
        AlertsError: there is no name, no such block, or more than one; the message lists the existing blocks.
    """
    blocks = {full: id for full, id, notifies in _blocks(client) if notifies}
    known = ", ".join(sorted(blocks)) or "none yet"
    remedy = f"Notification blocks on this server: {known}. To create one, see docs/alerts.md"
    if name is None:
        raise AlertsError(f"Name the notification block that sends the alerts with --block. {remedy}")
    _refuse_secrets("--block", name, remedy)
    matches = [id for full, id in blocks.items() if name in (full, full.partition("/")[2])]
    if len(matches) != 1:
        problem = "There are several notification blocks" if matches else "There is no notification block"
        raise AlertsError(f"{problem} named {name!r}. {remedy}")
    return matches[0]


def find_webhook(client: SyncPrefectClient, name: str) -> UUID:
    """Return the id of a "Webhook" block, which is not a notification block.

    Args:
        client: the client of the server.
        name: the block's name.

    Raises:
        AlertsError: there is no such block; the message lists the existing ones.
    """
    blocks = {full: id for full, id, _ in _blocks(client) if full.startswith(_WEBHOOK)}
    known = ", ".join(sorted(blocks)) or "none yet"
    remedy = f"Webhook blocks on this server: {known}. To create one, see docs/alerts.md"
    _refuse_secrets("--callback", name, remedy)
    block_id = blocks.get(_WEBHOOK + name.removeprefix(_WEBHOOK))
    if block_id is None:
        raise AlertsError(f"There is no block 'Webhook' named {name!r}. {remedy}")
    return block_id


def missing_work_pools(client: SyncPrefectClient, names: Iterable[str]) -> list[str]:
    """Return those work pools that the server does not have. They may be created later.

    Args:
        client: the client of the server.
        names: the work pools to watch; or patterns, as Prefect takes them: `scans*`, `!scans`.

    Raises:
        AlertsError: a name is probably a misspelling of a work pool that the server has.
    """
    known = {pool.name for pool in _work_pools(client)}
    missing = [name for name in names if not any(matches(name, pool) for pool in known)]
    for name in missing:
        meant = mistyped(name, known) if not _is_pattern(name) else None
        if meant is not None:
            raise AlertsError(
                f"There is no work pool named {name!r}. Did you mean {meant}? If it is to be a new one, create it "
                f"first: prefect work-pool create {name}"
            )
    return missing


def _is_pattern(name: str) -> bool:
    return name.startswith("!") or name.endswith("*")


def _work_pools(client: SyncPrefectClient) -> Iterator[WorkPool]:
    offset = 0
    while pools := client.read_work_pools(limit=_PAGE, offset=offset):
        yield from pools
        offset += len(pools)


def _refuse_secrets(flag: str, name: str, remedy: str) -> None:
    """Refuse what cannot be the name of a block, without repeating it: addresses of webhooks are secrets."""
    if not _BLOCK_NAME.fullmatch(name):
        raise AlertsError(
            f"{flag} takes the name of a block, or TYPE/NAME: lower-case letters, digits and dashes. An address or a "
            f"key belongs in the block itself. {remedy}"
        )


def _blocks(client: SyncPrefectClient) -> Iterator[tuple[str, UUID, bool]]:
    """Yield all blocks: the name as TYPE/NAME, the id, and whether it can notify."""
    offset = 0
    while documents := client.read_block_documents(limit=_PAGE, offset=offset, include_secrets=False):
        for document in documents:
            kind = document.block_type.slug if document.block_type else document.block_type_name
            notifies = document.block_schema is not None and "notify" in document.block_schema.capabilities
            yield f"{kind}/{document.name}", document.id, notifies
        offset += len(documents)
