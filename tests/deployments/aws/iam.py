"""What clients of S3 and SQS did, what that needs of IAM, and whether a policy gives it.

Only as much of IAM as our policies use; anything else in one is an error here, not a guess.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Policy = dict[str, Any]
_STATEMENT = {"Sid", "Effect", "Action", "Resource", "Condition"}
# A call over several messages needs what a call over one needs.
_OF_QUEUES = {
    "ReceiveMessage": "sqs:ReceiveMessage",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
}


@dataclass(frozen=True)
class Call:
    """A call to S3 and how it was answered; of a call to SQS, `bucket` is the queue's name."""

    operation: str
    bucket: str
    key: str
    status: int
    conditional: bool = False


@dataclass(frozen=True)
class Need:
    """One thing that has to be allowed; `context` are the condition keys that AWS knows with it."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


def recorded(client: "S3Client") -> list[Call]:
    """The calls that a client makes from now on, in order."""
    calls: list[Call] = []

    def before(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked"] = dict(params)

    def after(http_response: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        asked = context["asked"]
        key = asked.get("Key", asked.get("Prefix", ""))
        calls.append(Call(model.name, asked["Bucket"], key, http_response.status_code, "IfMatch" in asked))

    # First, as botocore's own handlers change the parameters: what is recorded is what the program asked for.
    client.meta.events.register_first("before-parameter-build.s3", before)
    client.meta.events.register("after-call.s3", after)
    return calls


def recorded_of_queue(client: Any) -> list[Call]:  # Any: boto3's types for SQS are a package of their own
    """The calls to SQS that a client makes from now on, in order."""
    calls: list[Call] = []

    def before(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked"] = params["QueueUrl"]

    def after(http_response: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        calls.append(Call(model.name, context["asked"].rpartition("/")[2], "", http_response.status_code))

    client.meta.events.register_first("before-parameter-build.sqs", before)
    client.meta.events.register("after-call.sqs", after)
    return calls


def needs(call: Call, keys: Mapping[str, str] | None = None) -> Iterator[Need]:
    """What AWS asks IAM for when a call is made.

    A key that is missing is answered with 404 only to those who may list it, with 403 to all others, which the
    program takes for a refusal. S3 holds the key asked for against the condition on s3:prefix then.
    A write or a deletion under the condition of an ETag (If-Match) needs the permission to read as well.

    Args:
        call: the call.
        keys: the KMS key of each bucket that has one.

    Raises:
        KeyError: nobody has said yet what this operation needs.
    """
    if call.operation in _OF_QUEUES:
        yield Need(_OF_QUEUES[call.operation], queue_arn(call.bucket))
        return
    bucket, encryption = f"arn:aws:s3:::{call.bucket}", (keys or {}).get(call.bucket)
    listing = Need("s3:ListBucket", bucket, (("s3:prefix", call.key),))
    if call.operation == "ListObjectsV2":
        yield listing
        return
    action = {
        "GetObject": "s3:GetObject",
        "HeadObject": "s3:GetObject",
        "PutObject": "s3:PutObject",
        "DeleteObject": "s3:DeleteObject",
    }[call.operation]
    yield Need(action, f"{bucket}/{call.key}")
    if call.status == 404:
        yield listing
    if call.conditional and call.operation in ("PutObject", "DeleteObject"):
        yield Need("s3:GetObject", f"{bucket}/{call.key}")
    if encryption is not None and action in ("s3:GetObject", "s3:PutObject"):
        used = "kms:Decrypt" if action == "s3:GetObject" else "kms:GenerateDataKey"
        yield Need(used, encryption, (("kms:ViaService", "s3.eu-central-1.amazonaws.com"),))


def queue_arn(name: str) -> str:
    """A queue as a policy names it."""
    return f"arn:aws:sqs:eu-central-1:111122223333:{name}"


def allowed(policies: Iterable[Policy], need: Need) -> bool:
    """Whether policies give it: some statement allows it, and none denies it."""
    effects = {
        statement["Effect"] for policy in policies for statement in policy["Statement"] if _applies(statement, need)
    }
    return effects == {"Allow"}


def _applies(statement: dict[str, Any], need: Need) -> bool:
    assert set(statement) <= _STATEMENT, f"not understood here: {set(statement) - _STATEMENT}"
    assert statement["Effect"] in ("Allow", "Deny")
    context = dict(need.context)
    for operator, wanted in statement.get("Condition", {}).items():
        assert operator == "StringLike", f"not understood here: {operator}"
        for name, patterns in wanted.items():
            if name not in context or not any(_like(pattern, context[name]) for pattern in as_list(patterns)):
                return False
    return any(_like(action.lower(), need.action.lower()) for action in as_list(statement["Action"])) and any(
        _like(resource, need.resource) for resource in as_list(statement["Resource"])
    )


def _like(pattern: str, text: str) -> bool:
    assert "${" not in pattern, "policy variables are not understood here"
    parts = {"*": ".*", "?": "."}
    return (
        re.fullmatch("".join(parts.get(character, re.escape(character)) for character in pattern), text, re.DOTALL)
        is not None
    )


def as_list(value: str | list[str]) -> list[str]:
    """IAM writes a list of one without brackets, too."""
    return [value] if isinstance(value, str) else value


def refused(policies: list[Policy], wanted: Iterable[Need]) -> set[Need]:
    """What the policies do not give."""
    return {need for need in wanted if not allowed(policies, need)}


def superfluous(policies: list[Policy], wanted: set[Need]) -> list[str]:
    """Every action, resource and value of a condition that can be taken out without anything being refused."""
    found = []
    for index, policy in enumerate(policies):
        for number, statement in enumerate(policy["Statement"]):
            for where, part in _parts(statement):
                less = copy.deepcopy(policies)
                _take_out(less[index]["Statement"][number], where, part)
                if not refused(less, wanted):
                    found.append(f"{statement['Sid']}: {'/'.join(where)} {part}")
    return found


def _parts(statement: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in ("Action", "Resource"):
        yield from (((name,), part) for part in as_list(statement[name]))
    for operator, wanted in statement.get("Condition", {}).items():
        for name, patterns in wanted.items():
            yield from ((("Condition", operator, name), part) for part in as_list(patterns))


def _take_out(statement: dict[str, Any], where: tuple[str, ...], part: str) -> None:
    inside = statement
    for name in where[:-1]:
        inside = inside[name]
    inside[where[-1]] = [value for value in as_list(inside[where[-1]]) if value != part]


def changed(policies: list[Policy], sid: str, change: Callable[[dict[str, Any]], object]) -> list[Policy]:
    """The policies with one statement changed."""
    other = copy.deepcopy(policies)
    (statement,) = (candidate for policy in other for candidate in policy["Statement"] if candidate["Sid"] == sid)
    change(statement)
    return other
