"""The automations: which events they wait for, and what they say. What each means for people: docs/alerts.md."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, CallWebhook, ChangeFlowRunState, EventTrigger, Posture, SendNotification
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.events import ResourceSpecification
from pydantic import BaseModel, ConfigDict, Field

from flows.run import events

_REFUSED = "Account refused"  # the state's name in flows/run/run.py
_PER_DESTINATION = {"prefect.resource.id"}


class Thresholds(BaseModel):
    """When an alert is raised, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: str = Field(
        "bulk-ocr", pattern=r"^[\w.:-]+$", description="The tag of the runs to watch; the rendered deployments have it"
    )
    work_pool: tuple[str, ...] = Field(("bulk-ocr",), min_length=1, description="The work pools to watch; repeatable")
    # Three heartbeats of 180 s, Prefect's default, and some time for them to arrive. Prefect takes no less than 10.
    silent_seconds: int = Field(
        600, ge=10, le=86_400, description="A run without a heartbeat for so long is marked as crashed"
    )
    worker_seconds: int = Field(
        300, ge=10, le=86_400, description="A work pool without a worker for so long, restarts of one aside"
    )
    idle_seconds: int = Field(
        3_600, ge=10, le=7 * 86_400, description="Open jobs of which none ended for so long are worth a look"
    )
    quiet_seconds: int = Field(
        3_600, ge=0, le=7 * 86_400, description="The same alert about the same thing is not sent again for so long"
    )


def automations(thresholds: Thresholds, notification: UUID) -> list[AutomationCore]:
    """The automations as they should be.

    Args:
        thresholds: what they go by.
        notification: the id of the notification block that sends what they say.
    """
    return [
        _run_failed(thresholds, notification),
        _run_silent(thresholds),
        _worker_gone(thresholds, notification),
        _reported(
            "documents failed",
            events.FAILED,
            "Documents were given up in a run.",
            "{{ event.payload.failed }} documents failed. {{ event.payload.sentence }}\n"
            "Reasons: {{ event.payload.reasons }}\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _reported(
            "account refused",
            events.REFUSED,
            "The API refused the account: key, credit or model. Nothing is sent until that is mended.",
            "The API refused the account, and nothing is sent until that is mended: {{ event.payload.refused }}",
            thresholds,
            notification,
        ),
        _reported(
            "results expiring",
            events.EXPIRING,
            "The API soon forgets results that are paid for and not collected.",
            "The API soon forgets the results of {{ event.payload.expiring }} jobs that are not collected.",
            thresholds,
            notification,
        ),
        _reported(
            "budget reached",
            events.BUDGET_REACHED,
            "A ceiling on pages or money was reached: nothing is sent until it is raised, or its day or month ends.",
            "{{ event.payload.ceiling }}\n{{ event.payload.sentence }}\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _reported(
            "budget nearly spent",
            events.BUDGET,
            "Most of what a run, a backfill, a day or a month may spend is spent.",
            "{{ event.payload.spent }}.\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _reported(
            "backfill stalled",
            events.STALLED,
            "A run serves a backfill, jobs are open, and for half an hour no document was finished.",
            "No document was finished for half an hour. {{ event.payload.sentence }}\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _nothing_ended(thresholds, notification),
    ]


def callback(webhook: UUID) -> AutomationCore:
    """The automation that calls a webhook each time a backfill is finished.

    Args:
        webhook: the id of the block "Webhook" that has its address.
    """
    return _automation(
        "backfill finished",
        "A backfill is finished: a webhook is called with its figures.",
        EventTrigger(
            expect={f"{events.BACKFILL}.finished"},
            match=ResourceSpecification({"prefect.resource.id": f"{events.BACKFILL}.*"}),
            for_each=_PER_DESTINATION,  # a backfill is a resource of its own
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        # As a whole, so that no name or reason can break the JSON.
        [CallWebhook(block_document_id=webhook, payload="{{ event.payload|tojson }}")],
    )


def _run_failed(thresholds: Thresholds, notification: UUID) -> AutomationCore:
    return _automation(
        "run failed",
        "A run of submit, listen, collect or backfill failed or crashed.",
        EventTrigger(
            # A state's event is named after the state's name, which is anything; its type tells what it is.
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification(
                {
                    "prefect.resource.id": "prefect.flow-run.*",
                    "prefect.state-type": [StateType.FAILED.value, StateType.CRASHED.value],
                    "prefect.state-name": f"!{_REFUSED}",  # it has an alert of its own
                }
            ),
            match_related=_tagged(thresholds),
            for_each={
                "related:deployment:prefect.resource.id",
                "related:flow:prefect.resource.id",
                "prefect.state-type",  # a crash is news although a run failed a while ago
            },
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(seconds=thresholds.quiet_seconds),
        ),
        [
            _notify(
                notification,
                "{{ event.resource.name }}: {{ event.payload.validated_state.name }}",
                "{{ event.payload.validated_state.message }}\nRun: {{ flow_run|ui_url }}",
            )
        ],
    )


def _run_silent(thresholds: Thresholds) -> AutomationCore:
    return _automation(
        "run silent",
        "A run whose process is gone is marked as crashed; the alert 'run failed' tells of it.",
        EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            # Any state, not only Prefect's own names of them: a run may end as "Some failed".
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_tagged(thresholds),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=thresholds.silent_seconds),
        ),
        [
            # Without force: the server does not let a run that has ended become crashed.
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message=f"No sign of life for {thresholds.silent_seconds} s: the run's process or its machine is gone",
                force=False,
            )
        ],
    )


def _worker_gone(thresholds: Thresholds, notification: UUID) -> AutomationCore:
    return _automation(
        "no worker",
        f"A work pool has had no worker for {thresholds.worker_seconds} s: scheduled runs wait.",
        EventTrigger(
            after={"prefect.work-pool.not-ready"},
            # An event that is waited for after itself starts the time anew: without it, a worker that is back for a
            # moment would end the watch for good.
            expect={"prefect.work-pool.ready", "prefect.work-pool.not-ready"},
            match=ResourceSpecification(
                {"prefect.resource.id": "prefect.work-pool.*", "prefect.resource.name": list(thresholds.work_pool)}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=thresholds.worker_seconds),
        ),
        [
            _notify(
                notification,
                "no worker for {{ event.resource.name }}",
                f"The work pool {{{{ event.resource.name }}}} has had no worker for {thresholds.worker_seconds} s; "
                "its runs wait until one is started.",
            )
        ],
    )


def _nothing_ended(thresholds: Thresholds, notification: UUID) -> AutomationCore:
    return _automation(
        "nothing ended",
        f"Jobs are open, and for {thresholds.idle_seconds} s none was collected and none failed.",
        EventTrigger(
            after={events.OPEN},
            expect={events.COLLECTED, events.FAILED, events.NONE_OPEN},
            for_each=_PER_DESTINATION,
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=thresholds.idle_seconds),
        ),
        [
            _notify(
                notification,
                "nothing ended: {{ event.resource.name }}",
                "{{ event.payload.open }} jobs are open, and since "
                f"{thresholds.idle_seconds} s none was collected and none failed. At peak the API may take 72 hours.",
            )
        ],
    )


def _reported(
    name: str, event: str, description: str, body: str, thresholds: Thresholds, notification: UUID
) -> AutomationCore:
    """An alert about what a run said when it ended."""
    return _automation(
        name,
        description,
        EventTrigger(
            expect={event},
            match=ResourceSpecification({"prefect.resource.id": "bulk-ocr.*", "bulk-ocr.attended": "no"}),
            for_each=_PER_DESTINATION | {"bulk-ocr.magnitude"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(seconds=thresholds.quiet_seconds),
        ),
        [_notify(notification, f"{name}: {{{{ event.resource.name }}}}", body)],
    )


def _automation(
    name: str,
    description: str,
    trigger: EventTrigger,
    actions: Iterable[SendNotification | ChangeFlowRunState | CallWebhook],
) -> AutomationCore:
    return AutomationCore(
        name=f"bulk-ocr: {name}", description=description, tags=["bulk-ocr"], trigger=trigger, actions=list(actions)
    )


def _notify(notification: UUID, subject: str, body: str) -> SendNotification:
    return SendNotification(block_document_id=notification, subject=f"bulk-ocr: {subject}", body=body)


def _tagged(thresholds: Thresholds) -> ResourceSpecification:
    return ResourceSpecification(
        {"prefect.resource.id": f"prefect.tag.{thresholds.tag}", "prefect.resource.role": "tag"}
    )
