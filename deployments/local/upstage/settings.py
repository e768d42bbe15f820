"""The settings of the stand-in, which can be changed at the start and while it runs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FOR_EVER = -1


class Limits(BaseModel):
    """Limits of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sync_pages: int = Field(default=100, ge=0, description="Pages of a sync request; more answer 413.")
    async_pages: int = Field(default=1000, ge=0, description="Pages of an asynchronous request; more answer 413.")
    max_bytes: int = Field(default=50 * 1024 * 1024, ge=0, description="Bytes of a document; more answer 413.")
    page_pixels: int = Field(
        default=200_000_000, ge=1, description="Pixels of a page, PDF at 150 DPI; more answer 413."
    )
    batch_pages: int = Field(default=10, ge=1, description="Pages of a batch.")
    sync_seconds: float = Field(default=300, ge=0, description="Time a sync request may take before it answers 504.")
    file_name_bytes: int = Field(
        default=900, ge=1, description="A longer file name, in bytes, leaves the request hanging in started."
    )
    result_seconds: float = Field(
        default=30 * 86400, ge=0, description="Life of a finished request; then it answers 404."
    )


class RequestRule(BaseModel):
    """Selects requests for a fault. The rule is used up after `times` requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str | None = Field(default=None, description="Only documents with this SHA-256; null takes any.")
    times: int = Field(default=1, ge=FOR_EVER, description="How often the rule applies; -1 for always.")

    def applies(self, sha256: str, batch: int | None) -> bool:
        """Return whether the rule applies to this document (and batch, if the rule names one)."""
        del batch
        return self.sha256 in (None, sha256)


class BatchRule(RequestRule):
    """Selects batches for a fault. The rule is used up after `times` batches."""

    batch: int | None = Field(default=None, ge=0, description="Only the batch with this index, from 0; null takes any.")

    def applies(self, sha256: str, batch: int | None) -> bool:
        """Return whether the rule applies to this batch of this document."""
        return super().applies(sha256, batch) and self.batch in (None, batch)


class Settings(BaseModel):
    """The behaviour of the stand-in. Changes do not survive a restart, which uses the command line's flags again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: str = Field(min_length=1, description="The key required in `Authorization: Bearer`.")
    limits: Limits = Limits()

    seconds_per_page: float = Field(
        default=0, ge=0, description="Minimum time a page takes; requests run concurrently."
    )
    queue_seconds: float = Field(
        default=0, ge=0, description="Time a request stays submitted; also applies to waiting ones."
    )
    url_seconds: float = Field(
        default=900, ge=0, description="Life of a download_url, from the status call that minted it."
    )
    storage_base_url: str | None = Field(
        default=None,
        description="Base of download_url, e.g. http://localhost:8080; null takes the host the caller used.",
    )

    face: Literal["documented", "recorded"] = Field(
        default="documented",
        description="Answer bodies: as the source documents have them (newer shape, ratios), or as recorded from the "
        "live API (older shape, pixels).",
    )
    model_snapshot: str = Field(default="ocr-250904", description="The model used if the alias is requested.")
    other_models: list[str] = Field(
        default_factory=list, description="Models that are accepted besides those whose name begins with ocr."
    )
    extra_fields: Literal["refuse", "ignore"] = Field(
        default="refuse", description="Form fields of other models, such as Document Parse's: 400, or ignored."
    )
    request_ids: Literal["uuid", "number", "same"] = Field(
        default="uuid",
        description="request_id: a UUID, a JSON number, or for every submission the first one since the last change of "
        "the settings.",
    )
    over_page_limit: Literal["refuse", "first"] = Field(
        default="refuse",
        description="A document with too many pages: 413, or only the first ones are recognised, silently.",
    )
    page_ids: Literal["restart", "document", "one"] = Field(
        default="restart",
        description="pages[].id: from 0 in each batch, from 0 over the document, or from 1 in each batch; "
        "CLOVA's pageIndex likewise, Google's pageNumber too but never from 0.",
    )
    google_form: Literal["responses", "document"] = Field(
        default="responses",
        description="schema=google: `responses` has a list with one answer a page, `document` one for all pages.",
    )
    nested_errors: list[int] = Field(
        default_factory=lambda: [400, 401, 403, 413, 429],
        description='Status codes whose body is {"error": {...}}; the others have {"code", "message"}.',
    )
    batch_order: Literal["ordered", "reversed", "shuffled"] = Field(
        default="ordered", description="Order of the batches in a status answer."
    )
    unfinished_batches: Literal["list", "null", "empty", "missing"] = Field(
        default="null",
        description="The value of batches before the work starts; list shows all of them as scheduled.",
    )

    requests_per_second: int = Field(default=1000, ge=1, description="Reported in the headers of every answer.")
    pages_per_minute: int = Field(default=1_000_000, ge=1, description="Reported in the headers of every answer.")
    keep_rates: bool = Field(default=False, description="Whether calls above these two rates answer 429.")
    retry_after: Literal["none", "seconds", "date", "unix"] = Field(
        default="none", description="The format of Retry-After in a 429, besides the vendor's own header."
    )

    credit_pages: int | None = Field(
        default=None,
        ge=0,
        description="Pages that may be billed for all requests; beyond that, submitting answers 403.",
    )
    refuse_async: bool = Field(default=False, description="Asynchronous submits are refused for this model.")
    refuse_async_status: Literal[400, 404, 405] = Field(
        default=400, description="How they are refused: 400 for the model, 404 not found, 405 method not allowed."
    )
    hang_on_bad_names: bool = Field(
        default=True,
        description="A file name too long or contradicting the content leaves the request in started.",
    )
    not_found_polls: int = Field(
        default=0,
        ge=0,
        description="The first N status calls of each request accepted by this process answer 404.",
    )

    fail_requests: list[RequestRule] = Field(default_factory=list, description="These requests end failed.")
    hang_requests: list[RequestRule] = Field(default_factory=list, description="These requests stay in started.")
    fail_batches: list[BatchRule] = Field(default_factory=list, description="These batches end failed.")
    request_status_on_failed_batch: Literal["completed", "failed"] = Field(
        default="completed", description="How a request ends that has a failed batch."
    )
    duplicate_batches: list[BatchRule] = Field(
        default_factory=list,
        description="These batches are listed twice: as failed (even index) or retrying (odd), and as completed.",
    )
    drop_batches: list[BatchRule] = Field(
        default_factory=list, description="These batches disappear from the list when they are finished."
    )
    short_batches: list[BatchRule] = Field(
        default_factory=list, description="The downloads of these batches lack their last page."
    )


RuleList = Literal[
    "fail_requests", "hang_requests", "fail_batches", "duplicate_batches", "drop_batches", "short_batches"
]


class LiveSettings:
    """The current settings, which another thread may replace at any time."""

    def __init__(self, settings: Settings) -> None:
        self._first = self._settings = settings
        self._used: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()

    @property
    def now(self) -> Settings:
        """The current settings."""
        return self._settings

    def patch(self, changes: Mapping[str, object]) -> Settings:
        """Change some settings.

        Args:
            changes: settings by name; `limits` may contain only some of the limits. The counters of a rule list that is
                given start again.

        Returns:
            All settings after the change.

        Raises:
            pydantic.ValidationError: a name is unknown or a value is out of bounds; nothing is changed then.
        """
        with self._lock:
            merged: dict[str, object] = {**self._settings.model_dump(), **changes}
            limits = changes.get("limits")
            if isinstance(limits, Mapping):
                merged["limits"] = {**self._settings.limits.model_dump(), **limits}
            self._settings = Settings.model_validate(merged)
            for key in [key for key in self._used if key[0] in changes]:
                del self._used[key]
            return self._settings

    def restore(self) -> None:
        """Put the first settings back in force; all rule lists start afresh."""
        with self._lock:
            self._settings = self._first
            self._used.clear()

    def take(self, name: RuleList, sha256: str, batch: int | None = None) -> bool:
        """Use up one turn of the first rule in the list that applies.

        Args:
            name: the list of rules.
            sha256: the document's hash.
            batch: the batch's index, for lists of batch rules.

        Returns:
            Whether any rule applied.
        """
        with self._lock:
            rules: list[RequestRule] = list(getattr(self._settings, name))
            for index, rule in enumerate(rules):
                left = rule.times == FOR_EVER or self._used[name, index] < rule.times
                if left and rule.applies(sha256, batch):
                    self._used[name, index] += 1
                    return True
            return False
