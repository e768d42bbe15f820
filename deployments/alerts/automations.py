"""The automations: their events and messages. docs/alerts.md explains what each alert means and what to do."""

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
    # Three heartbeats at Prefect's default of 180 s, and some time for them to arrive. Prefect's minimum is 10 s.
    silent_seconds: int = Field(
        600, ge=10, le=86_400, description="Seconds without a heartbeat after which a run is marked as crashed"
    )
    worker_seconds: int = Field(
        300, ge=10, le=86_400, description="Seconds without a worker in a pool until the alert, longer than a restart"
    )
    idle_seconds: int = Field(
        3_600, ge=10, le=7 * 86_400, description="Seconds in which none of the open jobs ended until the alert"
    )
    quiet_seconds: int = Field(
        3_600, ge=0, le=7 * 86_400, description="Seconds in which the same alert about the same thing is not repeated"
    )


def automations(thresholds: Thresholds, notification: UUID) -> list[AutomationCore]:
    """Return the automations as they should be.

    Args:
        thresholds: when they fire.
        notification: the id of the notification block that sends their messages.
    """
    return [
        _run_failed(thresholds, notification),
        _run_silent(thresholds),
        _worker_gone(thresholds, notification),
        _reported(
            "documents failed",
            events.FAILED,
            "Documents failed in a run.",
            "{{ event.payload.failed }} documents failed. {{ event.payload.sentence }}\n"
            "Reasons: {{ event.payload.reasons }}\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _reported(
            "account refused",
            events.REFUSED,
            "The API refused the account: key, credit or model. Nothing is sent until this is fixed.",
            "The API refused the account, and nothing is sent until this is fixed: {{ event.payload.refused }}",
            thresholds,
            notification,
        ),
        _reported(
            "results expiring",
            events.EXPIRING,
            "The API will soon delete results that are paid for and have not been collected.",
            "The API will soon delete the results of {{ event.payload.expiring }} jobs that have not been collected.",
            thresholds,
            notification,
        ),
        _reported(
            "budget reached",
            events.BUDGET_REACHED,
            "A ceiling on pages or money was reached: nothing is sent until it is raised or its day or month ends.",
            "{{ event.payload.ceiling }}\n{{ event.payload.sentence }}\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _reported(
            "budget nearly spent",
            events.BUDGET,
            "Most of the budget of a run, a backfill, a day or a month is spent.",
            "{{ event.payload.spent }}.\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _reported(
            "backfill stalled",
            events.STALLED,
            "A run works on a backfill and jobs are open, but no document was finished for half an hour.",
            "No document was finished for half an hour. {{ event.payload.sentence }}\nRun: {{ flow_run|ui_url }}",
            thresholds,
            notification,
        ),
        _nothing_ended(thresholds, notification),
    ]


def callback(webhook: UUID) -> AutomationCore:
    """Return the automation that calls a webhook whenever a backfill is finished.

    Args:
        webhook: the id of the "Webhook" block with the address.
    """
    return _automation(
        "backfill finished",
        "A backfill is finished: a webhook is called with its figures.",
        EventTrigger(
            expect={f"{events.BACKFILL}.finished"},
            match=ResourceSpecification({"prefect.resource.id": f"{events.BACKFILL}.*"}),
            for_each=_PER_DESTINATION,  # each backfill is a separate resource
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        # The payload is serialised as a whole, so that no name or reason can break the JSON.
        [CallWebhook(block_document_id=webhook, payload="{{ event.payload|tojson }}")],
    )


def _run_failed(thresholds: Thresholds, notification: UUID) -> AutomationCore:
    return _automation(
        "run failed",
        "A run of submit, listen, collect or backfill failed or crashed.",
        EventTrigger(
            # The event is named after the state's name, which can be anything. Only the state's type is reliable.
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification(
                {
                    "prefect.resource.id": "prefect.flow-run.*",
                    "prefect.state-type": [StateType.FAILED.value, StateType.CRASHED.value],
                    "prefect.state-name": f"!{_REFUSED}",  # it has a separate alert
                }
            ),
            match_related=_tagged(thresholds),
            for_each={
                "related:deployment:prefect.resource.id",
                "related:flow:prefect.resource.id",
                "prefect.state-type",  # report a crash even if a run failed a while ago
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
        "A run whose process is gone is marked as crashed, which triggers the alert 'run failed'.",
        EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            # Any state name, not only Prefect's own: a run may end as "Some failed".
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_tagged(thresholds),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=thresholds.silent_seconds),
        ),
        [
            # Without force, the server refuses to mark a run that has ended as crashed.
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message=f"No heartbeat for {thresholds.silent_seconds} s: the run's process or its machine is gone",
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
            # An event that is both in `after` and in `expect` restarts the timer. Otherwise, a worker that returns for
            # a moment would end the watch permanently.
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
                "its runs wait until a worker is started.",
            )
        ],
    )


def _nothing_ended(thresholds: Thresholds, notification: UUID) -> AutomationCore:
    return _automation(
        "nothing ended",
        f"Jobs are open, but for {thresholds.idle_seconds} s none was collected and none failed.",
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
                "{{ event.payload.open }} jobs are open, but for "
                f"{thresholds.idle_seconds} s none was collected and none failed. At peak, the API may take 72 hours.",
            )
        ],
    )


def _reported(
    name: str, event: str, description: str, body: str, thresholds: Thresholds, notification: UUID
) -> AutomationCore:
    """Return an alert about an event that a run emits when it ends."""
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
