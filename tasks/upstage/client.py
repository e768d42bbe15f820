"""The API client: one place that talks HTTP to Upstage, and the only one that retries faults of the moment."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from tasks.clock import Clock
from tasks.faults import (
    AccountFault,
    AnswerLost,
    DocumentFault,
    Fault,
    MomentFault,
    NotOffered,
    SetupFault,
    TimedOut,
)
from tasks.upstage.answers import RequestStatus, Submitted, parse_status
from tasks.upstage.destinations import Refused, Resolver, check_destination, resolve
from tasks.upstage.errors import Submission, fault_of
from tasks.upstage.throttle import Throttle

log = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://api.upstage.ai/v1"
ATTEMPTS = 8
_PROBE_ATTEMPTS = 3
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_UPLOAD_SECONDS = 300
SYNC_SECONDS = 330  # the API gives itself five minutes
_LONGEST_WAIT = 30.0
_LONGEST_RETRY_AFTER = 300.0
_LONGEST_ANSWER = 4 << 20  # a request of 1,000 pages has 100 batches, of about 1 KB each
_LONGEST_BATCH = 64 << 20  # ten pages of 10,000 words are 25 MB; a batch is read into memory, ten times its size
_LONGEST_SYNC_ANSWER = 128 << 20  # a hundred pages of a thousand words are 15 MB
_LONGEST_SHOWN = 300
_PIECE = 1 << 16
_SHORTEST_KEY = 8

Answer = TypeVar("Answer")


class RequestUnknown(MomentFault):
    """The API does not know the request (404). Right after a submission that can pass."""


class Cancelled(MomentFault):
    """The run is being ended: nothing more is sent."""


class UrlExpired(MomentFault):
    """A download URL was refused (403, 404, 410): a fresh one is to be asked for, now."""


@dataclass(frozen=True)
class Upload:
    """What is sent in one request.

    Attributes:
        file: the document, or a part of it.
        name: the file name to tell the API; it must match the content.
        media_type: the content's MIME type.
        model: the model's name or alias.
        pages: how many pages it has, or is reckoned to have: for the rate limit.
        schema: the answer schema to ask for; None for the API's own.
    """

    file: Path
    name: str
    media_type: str
    model: str
    pages: int
    schema: str | None = None


class _Bearer(AuthBase):
    """The key, as an auth object: with a plain header, requests would let a ~/.netrc entry replace it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials at all, not even from ~/.netrc: download URLs are credentials themselves."""
    return request


class UpstageClient:
    """Submits documents, asks for their status and downloads batches. Safe to share between threads.

    Args:
        base_url: the API's address up to and with the version.
        key: the account's key; sent to the API's own host only.
        throttle: the rate limit to keep.
        clock: the time to go by.
        connections: how many threads will use it at once.
        resolver: looks up the hosts of download URLs.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        throttle: Throttle,
        clock: Clock,
        connections: int = 16,
        resolver: Resolver = resolve,
    ) -> None:
        if not _is_web_address(base_url):
            raise SetupFault(f"UPSTAGE_BASE_URL '{base_url}' is no web address; the usual one is {DEFAULT_BASE_URL}")
        if not key.strip():
            raise SetupFault("no API key: set UPSTAGE_API_KEY to the key from the Upstage console")
        if not key.strip().isascii() or not key.strip().isprintable():
            raise SetupFault("UPSTAGE_API_KEY holds characters that no API key has; copy it again")
        self._base_url = base_url
        self._resolver = resolver
        self._documents = f"{base_url.rstrip('/')}/document-digitization"
        self._key = key.strip()
        self._auth = _Bearer(self._key)
        self._throttle = throttle
        self._clock = clock
        self._connections = connections
        self._api = self._session()
        self._storage = self._session()
        self._stopped: Fault | None = None

    def _session(self) -> requests.Session:
        session = requests.Session()
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=self._connections)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    def probe(self) -> None:
        """One cheap call that shows whether the account is accepted, before anything is claimed or sent.

        Raises:
            AccountFault: the key is refused.
            MomentFault: the API cannot be reached.
        """
        try:
            # The list itself is of no interest, and may be long.
            address = f"{self._documents}/requests"
            self._patiently(lambda: self._get(address, body=False), "reach the API", _PROBE_ATTEMPTS)
        except RequestUnknown:
            # Listing is documented for another model's endpoint only.
            log.debug("the API does not list requests; the first submission will show whether the key is accepted")

    def submit(self, upload: Upload, ready: Callable[[], None] = lambda: None) -> str:
        """Send a document as an asynchronous job. The file is streamed.

        Args:
            upload: what to send.
            ready: called right before every attempt, after the waiting; what it raises keeps the attempt from
                being made.

        Returns:
            The request's id.

        Raises:
            AnswerLost: it may have been accepted, and billed; not sent again by this call.
            NotOffered: the account cannot send this model's documents as jobs.
            AccountFault, DocumentFault, MomentFault: as the API answered.
        """
        return self._patiently(lambda: self._submit_once(upload, ready), f"submit {upload.name}")

    def recognise(self, upload: Upload, to: Path, ready: Callable[[], None] = lambda: None) -> None:
        """Send a document and wait for its pages (up to five minutes, by the API's own limit).

        Args:
            upload: what to send.
            to: the file that gets the answer, as it comes.
            ready: as for `submit`.

        Raises:
            TimedOut: it took too long, and may be billed.
            AnswerLost: it may have been recognised, and billed; not sent again by this call.
            AccountFault, DocumentFault, MomentFault: as the API answered.
        """
        self._patiently(lambda: self._recognise_once(upload, to, ready), f"recognise {upload.name}")

    @property
    def stopped(self) -> bool:
        """Whether nothing is sent any more."""
        return self._stopped is not None

    def stop_submitting(self, fault: Fault) -> None:
        """Let no thread send anything from now on: the account was refused, or the run is being cancelled."""
        self._stopped = fault

    def _submit_once(self, upload: Upload, ready: Callable[[], None]) -> str:
        answer = self._send(upload, "async", ready, _UPLOAD_SECONDS, _content)
        try:
            return Submitted.model_validate_json(self._without_key(answer)).request_id
        except ValidationError as error:
            raise AnswerLost(f"{upload.name} was accepted, but the answer holds no request id") from error

    def _recognise_once(self, upload: Upload, to: Path, ready: Callable[[], None]) -> None:
        def keep(response: requests.Response) -> bytes:
            received = 0
            with response, to.open("wb") as file:
                for piece in response.iter_content(_PIECE):
                    received += len(piece)
                    if received > _LONGEST_SYNC_ANSWER:
                        # Asked for again in the same way, it would be as long again.
                        raise TimedOut(f"the answer for {upload.name} is over {_LONGEST_SYNC_ANSWER >> 20} MB")
                    file.write(piece)
            return b""

        self._send(upload, "sync", ready, SYNC_SECONDS, keep)

    def _send(
        self,
        upload: Upload,
        submission: Submission,
        ready: Callable[[], None],
        seconds: float,
        receive: Callable[[requests.Response], bytes],
    ) -> bytes:
        """Post a document; `receive` takes in the answer, if it is a good one."""
        if self._stopped is not None:
            raise self._stopped
        self._throttle.take(upload.pages)
        if self._stopped is not None:  # asked after the wait, so that no thread sends after another was refused
            raise self._stopped
        ready()
        name = upload.name
        with upload.file.open("rb") as content:
            fields: dict[str, Any] = {"model": upload.model, "document": (name, content, upload.media_type)}
            if upload.schema is not None:
                fields["schema"] = upload.schema
            body = MultipartEncoderMonitor(MultipartEncoder(fields))
            try:
                response = self._api.post(
                    f"{self._documents}/async" if submission == "async" else self._documents,
                    data=body,
                    headers={"Content-Type": body.content_type},
                    auth=self._auth,
                    timeout=(_CONNECT_SECONDS, seconds),
                    allow_redirects=False,
                    stream=True,
                )
                if response.status_code // 100 == 2:
                    return receive(response)
                answer = self._without_key(_content(response))
            except requests.RequestException as error:
                if body.bytes_read < body.encoder.len:  # an upload that was cut short cannot have been accepted
                    raise MomentFault(f"could not send {name}: {_words(error)}") from error
                slow = submission == "sync" and isinstance(error, requests.Timeout)
                lost = TimedOut if slow else AnswerLost
                raise lost(f"{name} was sent, but the answer was lost: {_words(error)}") from error
        fault = fault_of(response.status_code, answer, response.headers, self._clock.now(), submitting=submission)
        # What is not offered in one way may be in another, and what is not for one model may be for another.
        if isinstance(fault, AccountFault) and not isinstance(fault, NotOffered):
            self.stop_submitting(fault)
        self._rest(response.status_code, fault)
        raise fault

    def status(self, request_id: str) -> RequestStatus:
        """How a request stands, with download URLs that live 15 minutes from now.

        Raises:
            RequestUnknown: the API does not know it.
            AccountFault, MomentFault: as the API answered.
        """
        address = f"{self._documents}/requests/{quote(request_id, safe='')}"
        return self._patiently(lambda: parse_status(self._get(address)), f"ask for request {request_id}")

    def _get(self, address: str, *, body: bool = True) -> bytes:
        self._throttle.take()
        try:
            response = self._api.get(
                address,
                auth=self._auth,
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                allow_redirects=False,
                stream=True,
            )
            if not body and response.status_code == 200:
                response.close()
                return b""
            answer = self._without_key(_content(response))
        except requests.RequestException as error:
            message = f"the API cannot be reached ({_words(error)}): check the network and UPSTAGE_BASE_URL"
            raise MomentFault(message) from error
        if response.status_code == 200:
            return answer
        if response.status_code == 404:
            raise RequestUnknown("the API does not know the request (404)")
        fault = fault_of(response.status_code, answer, response.headers, self._clock.now(), submitting=None)
        self._rest(response.status_code, fault)
        raise fault

    def download(self, url: str, to: Path) -> None:
        """Fetch a finished batch into a file, in pieces, without the API key.

        Raises:
            UrlExpired: the URL is over; a fresh one comes with the next status call.
            DocumentFault: the URL leads where no download may go, or to more than a batch can be.
            MomentFault: the download failed otherwise.
        """
        self._patiently(lambda: self._download_once(url, to), f"download {redacted(url)}")

    def _download_once(self, url: str, to: Path) -> None:
        self._check(url)
        try:
            with self._storage.get(
                url,
                auth=_nobody,
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code in (403, 404, 410):
                    raise UrlExpired(f"the download URL {redacted(url)} is refused ({response.status_code})")
                if response.status_code != 200:
                    raise MomentFault(f"the download of {redacted(url)} was answered {response.status_code}")
                received = 0
                with to.open("wb") as file:
                    for piece in response.iter_content(_PIECE):
                        received += len(piece)
                        if received > _LONGEST_BATCH:
                            raise DocumentFault(
                                "wrong-answer",
                                f"the download of {redacted(url)} is larger than a batch can be "
                                f"({_LONGEST_BATCH >> 20} MB): nothing was published",
                                retry_helps=True,
                            )
                        file.write(piece)
        except requests.RequestException as error:
            # Not "from error": its text holds the whole URL, and a traceback would show it.
            raise MomentFault(f"the download of {redacted(url)} failed: {type(error).__name__}") from None

    def _check(self, url: str) -> None:
        def look_up(host: str) -> Iterable[str] | None:
            at_host = f"{urlsplit(url).scheme}://{host}/"
            if requests.utils.select_proxy(at_host, requests.utils.get_environ_proxies(at_host)):
                return None  # the proxy's business
            return self._resolver(host)

        try:
            check_destination(url, self._base_url, look_up)
        except Refused as refused:
            raise DocumentFault(
                "refused-address",
                f"the API names {redacted(url)} for a download, which is not fetched, since {refused}: if it is right, "
                "check UPSTAGE_BASE_URL",
                retry_helps=True,
            ) from None
        except OSError as error:
            raise MomentFault(f"the host of {redacted(url)} cannot be looked up: {type(error).__name__}") from None

    def _without_key(self, answer: bytes) -> bytes:
        """An answer that cannot give the key away: a gateway may repeat the key that it refuses."""
        # A key shorter than any real one could be a word of the answer.
        return answer.replace(self._key.encode(), "…".encode()) if len(self._key) >= _SHORTEST_KEY else answer

    def _rest(self, status: int, fault: Exception) -> None:
        if status == 429 and isinstance(fault, MomentFault) and fault.retry_after:
            self._throttle.pause(min(fault.retry_after, _LONGEST_RETRY_AFTER))

    def _patiently(self, call: Callable[[], Answer], what: str, attempts: int = ATTEMPTS) -> Answer:
        """Retry faults of the moment: exponential backoff with full jitter, or what Retry-After asks for."""
        backoff = wait_random_exponential(multiplier=1, max=_LONGEST_WAIT)

        def wait(state: RetryCallState) -> float:
            fault = _fault(state)
            return fault.retry_after or backoff(state)  # "0 seconds" would be all attempts in one burst

        def give_up(state: RetryCallState) -> bool:
            fault = _fault(state)
            hopeless = isinstance(fault, RequestUnknown | UrlExpired | Cancelled)
            return hopeless or (fault.retry_after or 0) > _LONGEST_RETRY_AFTER or stop_after_attempt(attempts)(state)

        def tell(state: RetryCallState) -> None:
            seconds = state.next_action.sleep if state.next_action else 0
            log.warning(
                "could not %s, attempt %d of %d: %s; trying again in %.1f s",
                # The words alone: a record may live on, and a fault holds the frames and bodies it came from.
                what, state.attempt_number, attempts, str(_fault(state)), seconds,
            )  # fmt: skip

        retrying = Retrying(
            retry=retry_if_exception_type(MomentFault),
            wait=wait,
            stop=give_up,
            sleep=self._clock.sleep,
            before_sleep=tell,
            reraise=True,
        )
        return retrying(call)


class _Redacting(logging.Filter):
    """Cuts the query off the URLs that urllib3 logs, at DEBUG and in some of its warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(str(part).partition("?")[0] if "?" in str(part) else part for part in record.args)
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_Redacting())


def _is_web_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        return False


def redacted(url: str) -> str:
    """A download URL as it may be shown: without its query, which is the credential."""
    try:
        address = urlsplit(url)
        shown = f"{address.scheme}://{address.hostname or ''}{address.path}"
    except ValueError:
        return "…"
    # Strangers' words: nothing that moves a terminal's cursor, no novels.
    plain = "".join(letter if letter.isprintable() else " " for letter in shown[:_LONGEST_SHOWN])
    return plain + ("…" if len(shown) > _LONGEST_SHOWN else "") + ("?…" if address.query else "")


def _fault(state: RetryCallState) -> MomentFault:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, MomentFault) else MomentFault("")


def _content(response: requests.Response) -> bytes:
    """The body of an API answer, which is small; an endless one is cut off."""
    received = bytearray()
    with response:
        for piece in response.iter_content(_PIECE):
            received += piece
            if len(received) > _LONGEST_ANSWER:
                raise requests.exceptions.ContentDecodingError("the answer does not end")
    return bytes(received)


def _words(error: requests.RequestException) -> str:
    """An error in a few words; requests' own text can hold whole URLs."""
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", cause)
    return f"{type(error).__name__} ({type(reason).__name__})"
