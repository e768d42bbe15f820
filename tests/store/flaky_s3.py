"""An HTTP proxy in front of the S3 server that makes chosen calls go wrong, in the ways networks and stores do."""

import contextlib
import functools
import hashlib
import http.client
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from tasks.store.aws import AwsAccount
from tasks.store.objects import Objects, connect
from tests.fakes import FakeClock
from tests.serving import Serving
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_CONDITIONS = {"if-match", "if-none-match"}


@dataclass
class Rule:
    """Which calls go wrong, how often, and how.

    Attributes:
        action: `refuse` answers `status` and `code` and forwards nothing. `lose` forwards the call and answers
            `status` and `code` all the same. `hang_up` forwards it and cuts the connection. `cut` forwards it and
            cuts the connection in the middle of the answer's body. `strip` forwards it without its conditions.
            `pass` forwards it.
        path: a regular expression, searched in the decoded path and query.
        method: only calls with this method.
        body: a regular expression, searched in the body that was sent.
        status: of the answers of `refuse` and `lose`, as are `code`, `message` and `headers`.
        times: how many calls go wrong; -1 for ever.
        skip: how many matching calls pass before.
        unconditional: forwards the call without its conditions, whatever the action: a store that ignores them.
        before: called before the call is forwarded; somebody else acts at that moment.
        after: called after the call was forwarded, before the answer.
        rewrite: changes the answer's body.
    """

    action: Literal["refuse", "lose", "hang_up", "cut", "strip", "pass"]
    path: str = ""
    method: str | None = None
    body: bytes = b""
    times: int = 1
    skip: int = 0
    unconditional: bool = False
    status: int = 503
    code: str = "SlowDown"
    message: str = "as the test says"
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None
    rewrite: Callable[[bytes], bytes] | None = None
    hits: int = 0

    def claims(self, method: str, path: str, body: bytes) -> bool:
        """Say whether this call is to go wrong, and count it."""
        if self.method not in (None, method) or not re.search(self.path, path) or not re.search(self.body, body):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if not self.times:
            return False
        self.times -= self.times > 0
        self.hits += 1
        return True


@dataclass(frozen=True)
class Call:
    """A call as it came in: its headers by their names in lower case, and what its body was."""

    method: str
    path: str
    headers: Mapping[str, str]
    sha256: bytes
    length: int


@functools.cache
def _session() -> boto3.Session:
    return boto3.Session(S3_ACCESS_KEY, S3_SECRET_KEY, region_name=REGION)


class FlakyS3(Serving):
    """The proxy. Use as a context manager; `client` and `objects` talk to S3 through it.

    Args:
        url: the S3 server.
    """

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url).netloc
        self.rules: list[Rule] = []
        self.seen: list[tuple[str, str]] = []
        self.received: list[Call] = []
        self._lock = threading.Lock()
        flaky = self

        class Handler(self.handling()):  # type: ignore[misc]  # a class chosen when the proxy is made
            proxy = flaky

        super().__init__(Handler)

    @staticmethod
    def handling() -> "type[ProxyHandler]":
        """The class that handles calls; a subclass may bring another."""
        return ProxyHandler

    def fail(self, rule: Rule) -> Rule:
        """Add a rule; of several that fit a call, the first counts."""
        self.rules.append(rule)
        return rule

    def client(self) -> "S3Client":
        """The product's client, through the proxy."""
        return connect(self.url, account=AwsAccount(_session()))

    def objects(self, attempts: int = 1) -> Objects:
        """The product's view of the store behind the proxy: with so many attempts a call, and no time between them."""
        return Objects(self.client(), FakeClock(), attempts)

    def calls(self, method: str, path: str = "") -> int:
        """How many such calls came in."""
        with self._lock:
            return sum(method == seen[0] and bool(re.search(path, seen[1])) for seen in self.seen)

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Rule:
        """The rule that a call falls under."""
        with self._lock:
            named = {name.lower(): value for name, value in headers.items()}
            self.received.append(Call(method, path, named, hashlib.sha256(body).digest(), len(body)))
            self.seen.append((method, path))
            return next((rule for rule in self.rules if rule.claims(method, path, body)), Rule("pass"))


class ProxyHandler(BaseHTTPRequestHandler):
    """Hands a call on, or lets it go wrong."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body of an answer go apart; the body would wait for an acknowledgement
    proxy: FlakyS3

    def handle_call(self) -> None:
        """Hand a call on, as the rules have it."""
        # An upload may announce itself and wait to be asked for the body; the base class has asked.
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        rule = self.proxy.take(self.command, unquote(self.path), dict(self.headers.items()), sent)
        if rule.before:
            rule.before()
        if rule.action == "refuse":
            self._refuse(rule)
            return
        unconditional = rule.unconditional or rule.action == "strip"
        left_out = {"expect", "connection"} | (_CONDITIONS if unconditional else set())
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        if unconditional:
            headers = self._signed(headers, sent)
        upstream = http.client.HTTPConnection(self.proxy.target, timeout=PATIENCE)
        try:
            upstream.request(self.command, self.path, sent, headers)
            answer = upstream.getresponse()
            body = answer.read()
        finally:
            upstream.close()
        if rule.after:
            rule.after()
        if rule.action == "lose":
            self._refuse(rule)
        elif rule.action == "hang_up":
            self.close_connection = True
        else:
            length = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else None
            self._answer(answer, rule.rewrite(body) if rule.rewrite else body, length, cut=rule.action == "cut")

    def _signed(self, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """Sign anew: the conditions are part of what the client has signed."""
        unsigned = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        request = AWSRequest(self.command, f"http://{headers['Host']}{self.path}", unsigned, body)
        S3SigV4Auth(Credentials(S3_ACCESS_KEY, S3_SECRET_KEY), "s3", REGION).add_auth(request)
        return dict(request.headers.items())

    def _answer(self, answer: http.client.HTTPResponse, body: bytes, length: str | None, *, cut: bool) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", length if length is not None else str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _refuse(self, rule: Rule) -> None:
        body = f"<Error><Code>{rule.code}</Code><Message>{rule.message}</Message></Error>".encode()
        self.send_response(rule.status)
        self.send_header("Content-Type", "application/xml")
        for name, value in rule.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if self.command != "HEAD":
                self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_PATCH = handle_call  # noqa: N815 - the base class names them so

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
