"""What Prefect's server does by itself: ends runs that show no sign of life, and tells people how nights ended.

Ours are known by their names, and only those are made, changed or removed. A person may disable one in the dashboard:
it stays disabled.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from flows.operations.environment import HEARTBEAT_SECONDS
from shoes.settings import Settings
from tasks.notifying import require_blocks
from tasks.telling import PAUSED, PROMOTED, REFUSED
from tasks.windows import SKIPPED

log = logging.getLogger(__name__)
NO_SIGN_OF_LIFE = "shoes: no sign of life"
A_RUN_FAILED = "shoes: a run failed"
A_NIGHT_ENDED = "shoes: a night ended"
OURS = (NO_SIGN_OF_LIFE, A_RUN_FAILED, A_NIGHT_ENDED)
WEBHOOK = "shoes"
"""Name of the block of type webhook that keeps the address of SHOES_NOTIFY_WEBHOOK."""
SILENT = "No sign of life"
"""How the message of a state begins that a run was given for its silence."""
SILENCE = timedelta(seconds=3 * HEARTBEAT_SECONDS)
"""A run that was silent for so long is taken for dead. Prefect takes 10 s or more, and heartbeats of 30 s or more."""
_ENDS = ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled", "Cached", SKIPPED)
_RESTS = ("Paused", "Paused at*", "Suspended", "Scheduled", "AwaitingRetry", "Late")
"""States in which a run has no process that could give a sign of life; events are named by them."""


def set_up(client: SyncPrefectClient, settings: Settings, *, silence: timedelta = SILENCE) -> None:
    """Make the server's automations what the settings say; doing it again changes nothing.

    Args:
        silence: after which a run without a sign of life is Crashed; 10 s or more.

    Raises:
        ConfigurationError: SHOES_NOTIFY names what is no notification block, all of them together.
    """
    targets = _targets(client, settings)
    wanted = [no_sign_of_life(silence), *(notifications(targets, _dashboard(client)) if targets else [])]
    ours = [found for found in client.read_automations() if found.name in OURS]
    for automation in wanted:
        _make(client, automation, [found for found in ours if found.name == automation.name])
    if settings.prefect_api_url is None:  # on a team's server another machine may want them
        _remove(client, [found for found in ours if found.name not in {automation.name for automation in wanted}])


def no_sign_of_life(silence: timedelta = SILENCE) -> AutomationCore:
    """Runs whose process died together with its worker: nobody else would ever end them."""
    seconds = round(silence.total_seconds())
    said = f"{SILENT} for {seconds} s: its process or its machine has died. Retry goes on where it stopped."
    return AutomationCore(
        name=NO_SIGN_OF_LIFE,
        description=f"A run that gave no sign of life for {seconds} s is Crashed, so that it can be retried.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{name}" for name in (*_ENDS, *_RESTS))},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=said)],
    )


def notifications(targets: "Sequence[Target]", dashboard: str) -> list[AutomationCore]:
    """What is told to all targets: a run of the project that failed, and how a night ended.

    Args:
        dashboard: address of Prefect's pages.
    """
    page = f"{dashboard}/runs/flow-run/{{{{ flow_run.id }}}}"
    failure = (
        "{{ flow_run.state.name }}: {{ flow_run.name }} ({{ flow.name }})",
        "{{ flow_run.state.message }}\n\nWhat is done is kept; Retry on the run's page goes on from there:\n" + page,
    )
    night = (
        "{{ event.payload.title }}",
        "{{ event.payload.text }}{% if event.payload.flow_run %}\nFlow run: {{ event.payload.flow_run }}{% endif %}",
    )
    return [
        AutomationCore(
            name=A_RUN_FAILED,
            description="Tells the targets of SHOES_NOTIFY of runs that failed, crashed or took too long.",
            trigger=EventTrigger(
                expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
                match={"prefect.resource.id": ["prefect.flow-run.*"]},
                match_related={"prefect.resource.id": ["prefect.tag.shoes"], "prefect.resource.role": ["tag"]},
                posture=Posture.Reactive,
            ),
            actions=[target.action(*failure) for target in targets],
        ),
        AutomationCore(
            name=A_NIGHT_ENDED,
            description="Tells the targets of SHOES_NOTIFY if an adapter was promoted, refused, or is paused.",
            trigger=EventTrigger(
                expect={PROMOTED, REFUSED, PAUSED},
                match={"prefect.resource.id": ["shoes.night.*"]},
                posture=Posture.Reactive,
            ),
            actions=[target.action(*night) for target in targets],
        ),
    ]


class Target:
    """A notification block of the server."""

    def __init__(self, block: UUID) -> None:
        self.block = block

    def action(self, subject: str, body: str) -> ActionTypes:
        """Send a message; both parts are templates of Prefect's."""
        return SendNotification(block_document_id=self.block, subject=subject, body=body)


class WebhookTarget(Target):
    """An address that takes JSON with a field `text`."""

    def action(self, subject: str, body: str) -> ActionTypes:
        """Send title and text as JSON."""
        title, text = f"{{% set title %}}{subject}{{% endset %}}", f"{{% set text %}}{body}{{% endset %}}"
        both = '{"title": {{ title | string | tojson }}, "text": {{ (title ~ "\n\n" ~ text) | string | tojson }}}'
        return CallWebhook(block_document_id=self.block, payload=title + text + both)


def _targets(client: SyncPrefectClient, settings: Settings) -> list[Target]:
    names = [name.strip() for name in settings.notify.split(",") if name.strip()]
    targets = [Target(block) for block in require_blocks(client, names).values()]
    if settings.notify_webhook is not None:
        targets.append(WebhookTarget(_keep_webhook(client, settings.notify_webhook)))
    return targets


def _keep_webhook(client: SyncPrefectClient, address: SecretStr) -> UUID:
    """The address as a block of the server, which keeps it encrypted and shows it to nobody."""
    headers = SecretDict({"content-type": "application/json"})
    block = Webhook(url=address, headers=headers)
    with temporary_settings({PREFECT_API_URL: str(client.api_url).rstrip("/")}):
        return block.save(WEBHOOK, overwrite=True)


def _make(client: SyncPrefectClient, wanted: AutomationCore, found: Sequence[Automation]) -> None:
    """Make an automation, or bring the first of its name up to date; others of the name are removed."""
    if not found:
        client.create_automation(wanted)
        return
    first, *others = found
    wanted = wanted.model_copy(update={"enabled": first.enabled})
    if _content(first) != _content(wanted):
        client.update_automation(first.id, wanted)
    for other in others:
        client.delete_automation(other.id)


def _remove(client: SyncPrefectClient, automations: Sequence[Automation]) -> None:
    for found in automations:
        client.delete_automation(found.id)
        log.info("the automation %r is removed: nobody is to be notified", found.name)


def _content(automation: AutomationCore) -> object:
    """What an automation does, in a form that can be compared: the server gives triggers ids of its own."""
    fields = {"name", "description", "enabled", "trigger", "actions"}
    core = AutomationCore.model_validate(automation.model_dump(include=fields))
    return _sorted(core.model_dump(mode="json", include=fields))


def _sorted(value: object) -> object:
    """Sets come as lists in any order."""
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items() if key != "id"}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=str)
    return value


def _dashboard(client: SyncPrefectClient) -> str:
    return (PREFECT_UI_URL.value() or str(client.api_url).rstrip("/").removesuffix("/api")).rstrip("/")
