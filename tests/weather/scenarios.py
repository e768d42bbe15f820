"""The kinds of weather."""

import random
from typing import Any, Literal

from tests.store.flaky_s3 import Rule
from tests.weather.drive import Scenario
from tests.weather.ground import Weather

POST: dict[str, Any] = {"method": "POST", "path": "/async$"}
AT_ONCE: dict[str, Any] = {"method": "POST", "path": "document-digitization$"}
STATUS: dict[str, Any] = {"method": "GET", "path": "/requests/"}
DOWNLOAD: dict[str, Any] = {"method": "GET", "path": "^/storage/"}
API: dict[str, Any] = {"path": "^/v1/"}
_HOURS = 3600.0
_DAYS = 24 * _HOURS


def every(nth: int, times: int, *rules: dict[str, Any]) -> list[dict[str, Any]]:
    """Rules that strike every nth of the calls they fit, in turn, so often in all."""
    return [{**rules[i % len(rules)], "skip": (i + 1) * (nth - 1), "times": 1} for i in range(times)]


def every_s3(nth: int, times: int, action: Literal["refuse", "lose", "hang_up", "cut"], **rule: Any) -> list[Rule]:
    """The same in front of S3, or of the API."""
    return [Rule(action, skip=(i + 1) * (nth - 1), **rule) for i in range(times)]


def random_s3(
    seed: int, share: float, calls: int, action: Literal["refuse", "lose", "hang_up", "cut"] = "refuse", **rule: Any
) -> list[Rule]:
    """Faults of S3 for a share of the calls, at random but always the same."""
    dice = random.Random(seed)
    struck = [dice.random() < share for _ in range(calls)]
    return [Rule(action, skip=struck[:call].count(False), **rule) for call in range(calls) if struck[call]]


def answers(*statuses: int, **headers: str) -> list[dict[str, Any]]:
    """Faults that answer so."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return [{"action": "status", "status": status, "headers": sent} for status in statuses]


def storm(seed: int, share: float, calls: int) -> list[dict[str, Any]]:
    """Faults of every kind over a share of the calls, at random but always the same."""
    dice = random.Random(seed)
    kinds = [
        *answers(429, 500, 502, 503, 504),
        {"action": "reset_before"},
        {"action": "reset_after"},
        {"action": "cut"},
        {"action": "garbage"},
        {"action": "delay", "seconds": 0.02},
    ]
    rules: list[dict[str, Any]] = []
    passed = 0
    for _ in range(calls):
        if dice.random() < share:
            rules.append({**dice.choice(kinds), "skip": passed})
        else:
            passed += 1
    return rules


def _on(what: dict[str, Any], faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [what | fault for fault in faults]


def _revoke_again_or_restore(weather: Weather) -> None:
    """The key is restored, revoked once more while jobs are polled, and restored for good."""
    again = [{**API, **answers(401)[0], "skip": 12, "times": -1}]
    weather.fail(*(again if weather.refusals == 1 else []))


def _limit_credit(weather: Weather) -> None:
    weather.api.set(credit_pages=sum(submission["pages"] for submission in weather.api.billed()) + 70)


def _short_lived_urls(weather: Weather) -> None:
    weather.api.set(url_seconds=0.3)
    weather.fail(DOWNLOAD | {"action": "delay", "seconds": 0.2, "times": -1})


def _a_month_later(weather: Weather) -> None:
    weather.clock.advance(31 * _DAYS)
    weather.forget(2)


def _batches(mishap: str, first: int, status: str = "completed") -> Any:
    """Every second batch of a request, and the first batch of the first few requests, suffer a mishap."""
    rules = [{"batch": 1, "times": -1}, {"batch": 0, "times": first}]
    return lambda weather: weather.api.set(request_status_on_failed_batch=status, **{mishap: rules})


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "429 without Retry-After, every 3rd call",
        lambda weather: weather.fail(*every(3, 20, *_on(API, answers(429)))),
    ),
    Scenario(
        "429 with Retry-After: 7, every 3rd call",
        lambda weather: weather.fail(*every(3, 20, *_on(API, answers(429, Retry_After="7")))),
    ),
    Scenario(
        "500 and 503 on submits, every 2nd",
        lambda weather: weather.fail(*every(2, 12, *_on(POST, answers(500, 503)))),
        counted=True,
    ),
    Scenario(
        "502 and 504 on submits that did not arrive, every 3rd",
        lambda weather: weather.fail(*every(3, 6, *_on(POST, answers(502, 504)))),
        counted=True,
    ),
    Scenario(
        "504 on submits that were accepted, every 3rd",
        lambda weather: weather.lose(*every_s3(3, 6, "lose", method="POST", path="/async$", status=504)),
        way="proxy",
        counted=True,
    ),
    Scenario(
        "500, 502, 503, 504 on status calls, every 2nd",
        lambda weather: weather.fail(*every(2, 16, *_on(STATUS, answers(500, 502, 503, 504)))),
    ),
    Scenario(
        "the API's port is closed before the submits and before the polls",
        lambda weather: weather.close_gate(),
        moments={
            2: lambda weather: weather.open_gate(),
            3: lambda weather: weather.close_gate(),
            5: lambda weather: weather.open_gate(),
        },
        way="gate",
        s3_bound=3,  # each claim that is given back takes five calls, of the fifteen of a calm life
    ),
    Scenario(
        "connection reset before a submit is accepted, every 3rd",
        lambda weather: weather.fail(*every(3, 6, POST | {"action": "reset_before"})),
        counted=True,
    ),
    Scenario(
        "connection reset after a submit was accepted, every 3rd",
        lambda weather: weather.fail(*every(3, 6, POST | {"action": "reset_after"})),
        counted=True,
    ),
    Scenario(
        "slow answers, every 3rd",
        lambda weather: weather.fail(*every(3, 20, {"action": "delay", "seconds": 0.1})),
    ),
    Scenario(
        "downloads cut in the middle, every 2nd",
        lambda weather: weather.fail(*every(2, 16, DOWNLOAD | {"action": "cut"})),
    ),
    Scenario(
        "the storage host answers every download with a maintenance page for a while",
        lambda weather: weather.fail(DOWNLOAD | {"action": "garbage", "times": -1}),
        moments={3: lambda weather: weather.fail()},
        api_bound=4.0,
    ),
    Scenario(
        "downloads that are not JSON, three for each position in a request",
        lambda weather: weather.fail(
            *({"method": "GET", "path": f"^/storage/.*/{n}$", "action": "garbage", "times": 3} for n in (0, 1))
        ),
    ),
    Scenario(
        "404 on the first 3 polls of every request",
        lambda weather: weather.api.set(not_found_polls=3),
    ),
    Scenario(
        "download URLs expired once (403), every 2nd",
        lambda weather: weather.fail(*every(2, 16, *_on(DOWNLOAD, answers(403)))),
    ),
    Scenario(
        "download URLs that expire before all of a document is downloaded",
        _short_lived_urls,
        api_bound=3,
    ),
    Scenario(
        "a storm: faults of every kind on 20 % of all calls",
        lambda weather: weather.fail(*storm(113, 0.2, 600)),
        counted=True,
    ),
    Scenario(
        "another such storm",
        lambda weather: weather.fail(*storm(272, 0.2, 600)),
        counted=True,
    ),
    Scenario(
        "S3 answers 503 SlowDown to 15 % of calls for a while; up to 6 attempts a call",
        lambda weather: weather.fail_s3(*random_s3(15, 0.15, 120)),
        s3_attempts=6,
    ),
    Scenario(
        # For a while: what a job that is left alone meets with time and again is a matter of luck.
        "S3 answers 503 SlowDown to 10 % of calls for a while; one attempt a call",
        lambda weather: weather.fail_s3(*random_s3(10, 0.1, 300)),
        counted=True,
        s3_bound=3,
    ),
    Scenario(
        # At random: when one job is left, a pass over it may make four writes, and each time the same would be lost.
        "S3 answers 500 to writes that it carried out, one in four",
        lambda weather: weather.fail_s3(
            *random_s3(8, 1 / 4, 90, "lose", method="PUT", status=500, code="InternalError")
        ),
        counted=True,
    ),
    Scenario(
        # At random: when one job is left, a pass over it may make six reads, and each time the same would be cut.
        "S3 cuts connections after writes and in the middle of reads, one in six",
        lambda weather: weather.fail_s3(
            *random_s3(6, 1 / 6, 240, "hang_up", method="PUT"), *random_s3(7, 1 / 6, 240, "cut", method="GET")
        ),
        counted=True,
        s3_bound=4,
    ),
    Scenario("failed batches in completed requests", _batches("fail_batches", 4)),
    Scenario("failed batches in failed requests", _batches("fail_batches", 4, "failed")),
    Scenario("batches that are listed twice", _batches("duplicate_batches", 15)),
    Scenario("batches that are missing from the list", _batches("drop_batches", 4)),
    Scenario(
        # Asked for four times each, before and after the pages came by another request.
        "batches that lack their last page",
        _batches("short_batches", 4),
        api_bound=6,
    ),
    Scenario(
        "requests that hang in started for 97 hours",
        lambda weather: weather.api.set(
            hang_requests=[{"sha256": weather.sha(f"{name}.pdf")} for name in ("single-1", "middling-1", "middling-2")]
        ),
        moments={3: lambda weather: weather.clock.advance(97 * _HOURS)},
        counted=True,
    ),
    Scenario(
        "requests that the API no longer knows, every 3rd",
        moments={1: lambda weather: weather.forget(3)},
        counted=True,
        api_bound=4,  # a request that is not known is asked for during 15 minutes
        s3_bound=4,
    ),
    Scenario(
        "nothing ran for 31 days, and the API forgot every 2nd request",
        moments={1: _a_month_later},
        counted=True,
    ),
    Scenario(
        "credit used up half way, then topped up",
        _limit_credit,
        mend=lambda weather: weather.api.set(credit_pages=None),
    ),
    Scenario(
        "key revoked while submitting, then while polling, then restored",
        lambda weather: weather.fail({**API, **answers(401)[0], "skip": 8, "times": -1}),
        mend=_revoke_again_or_restore,
    ),
    Scenario(
        "synchronous: 429, 500 and 503, every 2nd",
        lambda weather: weather.fail(*every(2, 12, *_on(AT_ONCE, answers(429, 500, 503)))),
        options={"mode": "sync"},
        counted=True,
    ),
    Scenario(
        "synchronous: 502 and connections reset after the work was done, every 3rd",
        lambda weather: weather.fail(*every(3, 6, AT_ONCE | {"action": "reset_after"}, *_on(AT_ONCE, answers(502)))),
        options={"mode": "sync"},
        counted=True,
    ),
    Scenario(
        "synchronous: answers cut in the middle, every 3rd",
        lambda weather: weather.fail(*every(3, 6, AT_ONCE | {"action": "cut"})),
        options={"mode": "sync"},
        counted=True,
    ),
    Scenario(
        "synchronous: 504, every 3rd; these documents continue as jobs",
        lambda weather: weather.fail(*every(3, 6, *_on(AT_ONCE, answers(504)))),
        options={"mode": "sync"},
        counted=True,
    ),
    Scenario(
        "jobs are refused from the 5th submission on; the run continues synchronously",
        lambda weather: weather.fail(POST | {**answers(404)[0], "skip": 4, "times": -1}),
    ),
    Scenario(
        "failed batches, given up after one round, then retried",
        _batches("fail_batches", 0),
        options={"rounds": 1},
        fails=7,
        s3_bound=3,  # failing and being put back write and read a record more
    ),
    Scenario(
        "every request fails twice, then the jobs are retried",
        lambda weather: weather.api.set(fail_requests=[{"times": -1}]),
        mend=lambda weather: weather.api.set(fail_requests=[]),
        options={"rounds": 2},
        fails=12,
        s3_bound=4,  # the document is read three times, and each of three requests claims its id
        api_bound=4,  # everything is sent three times
    ),
)
