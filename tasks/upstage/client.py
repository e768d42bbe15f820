"""The API client: the only code that talks HTTP to Upstage, and the only code that retries transient API faults."""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import ValidationError
from requests.auth import AuthBase
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor

from tasks.clock import Clock
from tasks.faults import (
    AccountFault,
    AnswerLost,
    Cancelled,
    DocumentFault,
    FailureCode,
    Fault,
    NotOffered,
    NotUnderstood,
    RequestUnknown,
    SetupFault,
    TimedOut,
    TransientFault,
    UrlExpired,
)
from tasks.upstage.answers import RequestStatus, Submitted, other_than_a_result, parse_status
from tasks.upstage.destinations import DEFAULT_BASE_URL as DEFAULT_BASE_URL
from tasks.upstage.destinations import (
    Refused,
    Resolver,
    api_address,
    check_api_host,
    check_destination,
    has_version,
    redacted,
    resolve,
)
from tasks.upstage.errors import Submission, clean_words, fault_of, message_of
from tasks.upstage.one_limit import Sent
from tasks.upstage.patience import ATTEMPTS, patiently
from tasks.upstage.throttle import Throttle
from tasks.upstage.transport import Call, CallCut, Calls, Monotonic, RunEnded, pieces, writing
from tasks.upstage.upload import Upload, fitting

log = logging.getLogger(__name__)

NO_KEY = "no API key: set UPSTAGE_API_KEY to the key from the Upstage console"

_PROBE_ATTEMPTS = 3
_CONNECT_SECONDS = 10
_READ_SECONDS = 60  # without a byte; also the time for the first megabyte of a body, see `transport.LOWEST_SPEED`
_UPLOAD_SECONDS = 300  # from the end of an upload to the answer
SYNC_SECONDS = 330  # the API's own limit is five minutes
_LAST_SECONDS = 10.0  # for the answer to a complete upload when the run is shutting down: it is billed
_LONGEST_ANSWER = 4 << 20  # a request of 1,000 pages has 100 batches, of about 1 KB each
_LONGEST_BATCH = 64 << 20  # ten pages of 10,000 words are 25 MB; a batch is read into memory, ten times its size
_LONGEST_SYNC_ANSWER = 128 << 20  # a hundred pages of a thousand words are 15 MB
_HEAD = 1 << 16
_SHORTEST_KEY = 8

Answer = TypeVar("Answer")
Receive = Callable[[requests.Response, Call], bytes]


class _Bearer(AuthBase):
    """The API key as an auth object: `requests` would let a ~/.netrc entry replace a plain header."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials at all, not even from ~/.netrc: download URLs are credentials themselves."""
    return request


class UpstageClient:
    """Submits documents, polls their status and downloads batches. Thread-safe.

    Args:
        base_url: the API's address including the version.
        key: the account's key; sent to the API's own host only.
        throttle: the rate limit to keep.
        clock: the clock for waits and headers.
        connections: the number of threads that will use the client at once.
        resolver: resolves the hosts of download URLs.
        monotonic: the timer for calls in progress, in seconds; see `transport.Calls`.

    Raises:
        SetupFault: the address or key cannot work, or the key would cross the internet unencrypted.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        throttle: Throttle,
        clock: Clock,
        connections: int = 16,
        resolver: Resolver = resolve,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._base_url = api_address(base_url)
        if not key.strip():
            raise SetupFault(NO_KEY)
        if not key.strip().isascii() or not key.strip().isprintable():
            raise SetupFault("UPSTAGE_API_KEY has characters that are not valid in an API key; copy it again")
        self._resolver = resolver
        self._documents = f"{self._base_url}/document-digitization"
        self._key = key.strip()
        self._auth = _Bearer(self._key)
        self._throttle = throttle
        self._clock = clock
        self._calls = Calls(clock, monotonic)
        self._api = self._calls.session(connections)
        self._storage = self._calls.session(connections)
        self._stopped: Fault | None = None
        self._takes_jobs: set[str] = set()  # models that a job was accepted for
        self._host_checked = False
        try:
            self._check_host()
        except OSError:
            log.debug("the API's host name cannot be resolved now; it is resolved again before the key is sent")

    def _check_host(self) -> None:
        if not self._host_checked:
            check_api_host(self._base_url, self._resolver)
            self._host_checked = True

    def probe(self) -> None:
        """Make one cheap call that shows whether the account is accepted, before anything is claimed or sent.

        Raises:
            AccountFault: the key is refused.
            NotUnderstood: another server answers instead of the API.
            SetupFault: there is no API at the base URL.
            TransientFault: the API cannot be reached.
            Cancelled: the run is being ended.
        """
        try:
            # The list itself is not needed, and may be long.
            address = f"{self._documents}/requests"
            self._patiently(lambda: self._get(address, body=False), "reach the API", _PROBE_ATTEMPTS)
        except RequestUnknown as unknown:
            if not has_version(self._base_url):
                raise SetupFault(
                    f"{unknown}, and the base URL '{self._base_url}' has no version, as in {DEFAULT_BASE_URL}: "
                    "correct UPSTAGE_BASE_URL, or the block that names it"
                ) from unknown
            # Listing is documented for another model's endpoint only.
            log.debug("the API does not list requests; the first submission will show whether the key is accepted")

    def submit(self, upload: Upload, ready: Callable[[], None] = lambda: None) -> str:
        """Send a document as an asynchronous job. The file is streamed.

        Args:
            upload: what to send.
            ready: called right before every attempt, after the wait for the rate limit; if it raises, nothing is sent.

        Returns:
            The request's id.

        Raises:
            AnswerLost: it may have been accepted, and billed; not sent again by this call.
            NotOffered: the account has no async access to this model.
            AccountFault, DocumentFault, TransientFault: as the API answered.
            Cancelled: the run is being ended, and this was not sent.
        """
        return self._patiently(lambda: self._submit_once(upload, ready), f"submit {upload.name}")

    def recognise(self, upload: Upload, to: Path, ready: Callable[[], None] = lambda: None) -> None:
        """Send a document synchronously and wait for its pages, up to the API's limit of five minutes.

        Args:
            upload: what to send.
            to: the file that the answer is streamed to.
            ready: as for `submit`.

        Raises:
            TimedOut: it took too long, and may be billed.
            AnswerLost: it may have been recognised and billed; not sent again by this call.
            SetupFault: it was recognised, but the answer cannot be written.
            AccountFault, DocumentFault, TransientFault: as the API answered.
            Cancelled: the run is being ended, and this was not sent.
        """
        self._patiently(lambda: self._recognise_once(upload, to, ready), f"recognise {upload.name}")

    @property
    def stopped(self) -> bool:
        """Whether sending has been stopped."""
        return self._stopped is not None

    def stop_submitting(self, fault: Fault) -> None:
        """Let no thread send anything from now on: the account was refused, or the run is being cancelled."""
        self._stopped = fault

    def _submit_once(self, upload: Upload, ready: Callable[[], None]) -> str:
        answer = self._send(upload, "async", ready, _UPLOAD_SECONDS, _content)
        try:
            receipt = Submitted.model_validate_json(answer)
        except ValidationError as error:
            body_text = message_of(answer) or "an empty body"
            raise AnswerLost(f"{upload.name} was sent, but the answer has no request id: {body_text}") from error
        self._takes_jobs.add(upload.model)
        return receipt.request_id

    def _recognise_once(self, upload: Upload, to: Path, ready: Callable[[], None]) -> None:
        def keep(response: requests.Response, call: Call) -> bytes:
            received, head = 0, b""
            with response, writing(to) as file:
                for piece in pieces(response, call):
                    received += len(piece)
                    if received > _LONGEST_SYNC_ANSWER:
                        # Not transient: the same request would get an answer of the same size.
                        raise TimedOut(f"the answer for {upload.name} is over {_LONGEST_SYNC_ANSWER >> 20} MB")
                    head += piece if len(head) < _HEAD else b""
                    file.write(piece)
            other = other_than_a_result(self._without_key(head), whole=received == len(head))
            if other is not None:
                raise AnswerLost(f"{upload.name} was sent, but the answer is not a result: {other}")
            return b""

        self._send(upload, "sync", ready, SYNC_SECONDS, keep)

    def _send(
        self, upload: Upload, submission: Submission, ready: Callable[[], None], seconds: float, receive: Receive
    ) -> bytes:
        """Post a document; `receive` reads the answer if its status is 2xx."""
        self._refuse_when_stopped()
        self._throttle.take(upload.pages)
        self._refuse_when_stopped()  # again after the wait: another thread may have been refused meanwhile
        self._prove_host()
        ready()
        name = upload.name
        with upload.file.open("rb") as content:
            fields: dict[str, Any] = {"model": upload.model, "document": (fitting(name), content, upload.media_type)}
            if upload.schema is not None:
                fields["schema"] = upload.schema
            encoder = MultipartEncoder(fields)
            sent, begun = 0, self._clock.monotonic()
            try:
                with self._calls.call(_READ_SECONDS) as call:

                    def moved(monitor: Any) -> None:
                        nonlocal sent
                        # A call that was cut raises here, before this piece is handed to the connection.
                        call.moved(monitor.bytes_read - sent)
                        sent = monitor.bytes_read
                        if sent >= encoder.len:
                            call.allow(seconds, when_ended=_LAST_SECONDS)

                    response = self._api.post(
                        f"{self._documents}/async" if submission == "async" else self._documents,
                        data=MultipartEncoderMonitor(encoder, moved),
                        headers={"Content-Type": encoder.content_type},
                        auth=self._auth,
                        timeout=(_CONNECT_SECONDS, seconds),
                        allow_redirects=False,
                        stream=True,
                    )
                    good = response.status_code // 100 == 2
                    self._throttle.learn_from(response.headers, Sent(submitting=True, at=begun) if good else None)
                    call.allow(_READ_SECONDS, when_ended=_LAST_SECONDS)
                    answer = self._without_key(receive(response, call) if good else _content(response, call))
            except requests.RequestException as error:
                raise self._unanswered(name, submission, sent >= encoder.len, error) from error
        if good:
            return answer
        fault = fault_of(
            response.status_code,
            answer,
            response.headers,
            self._throttle.server_time.heard(response.headers),
            submitting=submission,
            sent_whole=sent >= encoder.len,
            jobs_accepted=upload.model in self._takes_jobs,
        )
        # A model that is not offered in one mode may be in the other, and so may another model.
        if isinstance(fault, AccountFault) and not isinstance(fault, NotOffered):
            self.stop_submitting(fault)
        raise self._noted(response, fault, submitting=True)

    def _unanswered(self, name: str, submission: Submission, whole: bool, error: requests.RequestException) -> Fault:
        """Classify a missing answer: a document whose upload was cut short cannot have been accepted."""
        if not whole:
            if isinstance(error, RunEnded):
                return Cancelled(f"{name} was not sent: {error}")
            return TransientFault(f"could not send {name}: {_words(error)}")
        slow = submission == "sync" and isinstance(error, requests.Timeout)
        return (TimedOut if slow else AnswerLost)(f"{name} was sent, but the answer was lost: {_words(error)}")

    def _refuse_when_stopped(self) -> None:
        if self._stopped is not None:
            # A new instance for each call: every thread attaches the cost of its own document to it.
            fault = type(self._stopped)(*self._stopped.args)
            fault.not_sent = True
            raise fault
        self._refuse_when_ended()

    def _refuse_when_ended(self) -> None:
        if self._clock.ended:
            raise Cancelled("the run is shutting down: no more requests are sent to the API")

    def _prove_host(self) -> None:
        try:
            self._check_host()
        except OSError as error:
            raise TransientFault(
                f"the API's host name cannot be resolved ({type(error).__name__}): check the network and "
                "UPSTAGE_BASE_URL"
            ) from error

    def status(self, request_id: str) -> RequestStatus:
        """Get the status of a request, with download URLs that are valid for 15 minutes.

        Raises:
            RequestUnknown: the API does not know it.
            AccountFault, TransientFault: as the API answered; an answer for another request is transient.
            Cancelled: the run is being ended.
        """
        address = f"{self._documents}/requests/{quote(request_id, safe='')}"

        def ask() -> RequestStatus:
            answer = parse_status(self._get(address))
            if not answer.is_about(request_id):
                raise TransientFault(f"the API answered for another request ('{clean_words(answer.id)}')")
            return answer

        return self._patiently(ask, f"ask for request {request_id}")

    def _get(self, address: str, *, body: bool = True) -> bytes:
        self._refuse_when_ended()
        self._throttle.take()
        self._prove_host()
        begun = self._clock.monotonic()
        try:
            with self._calls.call(_READ_SECONDS) as call:
                response = self._api.get(
                    address,
                    auth=self._auth,
                    timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                    allow_redirects=False,
                    stream=True,
                )
                accepted = response.status_code == 200
                self._throttle.learn_from(response.headers, Sent(submitting=False, at=begun) if accepted else None)
                if not body and response.status_code == 200:
                    self._prove_api(response, call)
                    return b""
                answer = self._without_key(_content(response, call))
        except RunEnded as ended:
            raise Cancelled(str(ended)) from ended
        except requests.RequestException as error:
            message = f"the API cannot be reached ({_words(error)}): check the network and UPSTAGE_BASE_URL"
            raise TransientFault(message) from error
        if response.status_code == 200:
            return answer
        if response.status_code == 404:
            raise RequestUnknown("the API does not know the request (404)")
        server_time = self._throttle.server_time.heard(response.headers)
        fault = fault_of(response.status_code, answer, response.headers, server_time, submitting=None)
        raise self._noted(response, fault, submitting=False)

    def _prove_api(self, response: requests.Response, call: Call) -> None:
        """Refuse HTML: a network's sign-in page answers everything with status 200."""
        with response:
            if "html" not in response.headers.get("Content-Type", "").lower():
                return
            page = self._without_key(next(pieces(response, call), b""))
        raise NotUnderstood(
            f"{self._base_url} answers with a web page instead of the API ({message_of(page)}): check "
            "UPSTAGE_BASE_URL, and whether this network requires a sign-in"
        )

    def download(self, url: str, to: Path) -> None:
        """Stream a finished batch into a file, without the API key.

        Raises:
            UrlExpired: the URL expired; the next status call returns a fresh one.
            DocumentFault: the URL's host is not allowed for downloads, or the body exceeds the size limit of a batch.
            SetupFault: the file cannot be written.
            TransientFault: the download failed otherwise.
            Cancelled: the run is being ended.
        """
        self._patiently(lambda: self._download_once(url, to), f"download {redacted(url)}")

    def _download_once(self, url: str, to: Path) -> None:
        self._refuse_when_ended()
        self._check(url)
        try:
            with (
                self._calls.call(_READ_SECONDS) as call,
                self._storage.get(
                    url,
                    auth=_nobody,
                    timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                if response.status_code in (403, 404, 410):
                    raise UrlExpired(f"the download URL {redacted(url)} was rejected ({response.status_code})")
                if response.status_code != 200:
                    raise TransientFault(f"the download of {redacted(url)} was answered {response.status_code}")
                received = 0
                with writing(to) as file:
                    for piece in pieces(response, call):
                        received += len(piece)
                        if received > _LONGEST_BATCH:
                            raise DocumentFault(
                                FailureCode.WRONG_ANSWER,
                                f"the download of {redacted(url)} exceeds the size limit of a batch "
                                f"({_LONGEST_BATCH >> 20} MB): nothing was published",
                                retry_helps=True,
                            )
                        file.write(piece)
        except RunEnded as ended:
            raise Cancelled(str(ended)) from None
        except requests.RequestException as error:
            # Not "from error": its text holds the whole URL, and a traceback would show it.
            raise TransientFault(f"the download of {redacted(url)} failed: {type(error).__name__}") from None

    def _check(self, url: str) -> None:
        def look_up(host: str) -> Iterable[str] | None:
            at_host = f"{urlsplit(url).scheme}://{host}/"
            if requests.utils.select_proxy(at_host, requests.utils.get_environ_proxies(at_host)):
                return None  # the proxy resolves it
            return self._resolver(host)

        try:
            check_destination(url, self._base_url, look_up)
        except Refused as refused:
            raise DocumentFault(
                FailureCode.REFUSED_ADDRESS,
                f"the API returned {redacted(url)} for a download, which is not fetched because {refused}: "
                "if it is right, "
                "check UPSTAGE_BASE_URL",
                retry_helps=True,
            ) from None
        except OSError as error:
            raise TransientFault(
                f"the host name of {redacted(url)} cannot be resolved: {type(error).__name__}"
            ) from None

    def _without_key(self, answer: bytes) -> bytes:
        """Remove the key from an answer: a gateway may repeat the key that it refuses."""
        # A key shorter than any real one could be an ordinary word of the answer.
        return answer.replace(self._key.encode(), "…".encode()) if len(self._key) >= _SHORTEST_KEY else answer

    def _noted(self, response: requests.Response, fault: Fault, *, submitting: bool) -> Fault:
        """Return the fault unchanged; pass a 429 on to the throttle, so that other threads wait as well."""
        if response.status_code == 429 and isinstance(fault, TransientFault):
            self._throttle.refused(response.headers, fault.retry_after, submitting=submitting)
        return fault

    def _patiently(self, call: Callable[[], Answer], what: str, attempts: int = ATTEMPTS) -> Answer:
        return patiently(call, what, self._clock, attempts)


def _content(response: requests.Response, call: Call) -> bytes:
    """Read the body of an API answer, which is small; an endless one is cut off."""
    received = bytearray()
    with response:
        for piece in pieces(response, call):
            received += piece
            if len(received) > _LONGEST_ANSWER:
                raise requests.exceptions.ContentDecodingError("the answer does not end")
    return bytes(received)


def _words(error: requests.RequestException) -> str:
    """Describe an error briefly; the text of `requests` itself can contain whole URLs."""
    if isinstance(error, CallCut):
        return str(error)
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", cause)
    return f"{type(error).__name__} ({type(reason).__name__})"
