"""Everything that can be set for a run, with bounds: one typed model for the command line, the flows and the UI."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.models import AnswerSchema
from tasks.selection import EVERYTHING, Selection
from tasks.upstage.limits import Limits


class Recognition(BaseModel):
    """How documents are recognised. Model and schema are what changes a result, and so makes another job."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    model: str = Field(
        "ocr",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="OCR model: the alias 'ocr', or a snapshot such as ocr-250904",
    )
    # Named "schema" wherever a person meets it; pydantic's models have a method of that name.
    answer_schema: AnswerSchema | None = Field(
        None, alias="schema", description="Answer in another service's shape instead of the API's own"
    )
    mode: Literal["async", "sync", "auto"] = Field(
        "async", description="async: as jobs; sync: answered at once; auto: short documents sync, the others async"
    )
    sync_up_to: int = Field(10, ge=1, description="In mode auto: documents of up to so many pages are sent sync")
    page_budget: int | None = Field(None, ge=1, description="Most pages to send in this run; no limit when left out")
    workers: int = Field(8, ge=1, le=64, description="Documents worked on at once in this process")
    requests_per_second: float = Field(2, gt=0, description="The account's rate limit, or this process's share of it")
    pages_per_minute: float = Field(1200, gt=0, description="The account's page limit, or this process's share of it")
    poll_seconds: float = Field(
        2, gt=0, description="Shortest wait before a job is asked for again; grows with its age"
    )
    longest_poll_seconds: float = Field(600, gt=0, description="Longest wait between two polls of a job")
    lease_seconds: float = Field(
        600, ge=1, description="How long a claim holds when its worker dies; longer than an upload takes"
    )
    give_up_hours: float = Field(96, gt=0, description="When an unfinished request counts as lost; 72 hours are normal")
    rounds: int = Field(3, ge=1, le=20, description="How often the missing pages of a document are sent, in all")
    limits: Limits = Field(default_factory=Limits, description="What the API takes in one request")


class Options(Recognition):
    """How a run over a bucket works."""

    window: int = Field(1000, ge=1, le=100_000, description="Most jobs open at once; more are sent as these are done")
    text: bool = Field(
        False, description="Write the plain text beside each result as well, pages divided by form feeds"
    )
    reuse_identical: bool = Field(
        False, description="Copy the result of a document with the same bytes instead of paying for it again"
    )


class FileOptions(Recognition):
    """How local documents are recognised: at once where the API takes that, as jobs beyond."""

    mode: Literal["async", "sync", "auto"] = Field(
        "auto", description="auto: documents of up to --sync-up-to pages at once, longer ones as jobs"
    )
    sync_up_to: int = Field(100, ge=1, description="In mode auto: documents of up to so many pages are sent sync")


DEFAULTS = Options()
FILE_DEFAULTS = FileOptions()


class RunSettings(BaseModel):
    """What a step needs to know of its run; it travels with every task, so it holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = Field(None, description="s3://bucket/prefix of the documents")
    destination: str = Field(description="s3://bucket/prefix of the results and the ledger")
    selection: Selection = EVERYTHING
    options: Options = DEFAULTS
