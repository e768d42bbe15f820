"""Everything that can be set for a run, with bounds: one typed model for the command line, the flows and the UI."""

import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tasks.faults import SetupFault
from tasks.job.record import AnswerSchema, TextLayers
from tasks.selection import EVERYTHING, Selection
from tasks.settings_model import SettingsModel
from tasks.store.location import Location
from tasks.store.settings import AS_IT_IS, DestinationOptions, SourceOptions
from tasks.upstage.limits import MOST, PRICE_PER_PAGE, Limits


class Recognition(SettingsModel):
    """How documents are recognised. Model and schema are what changes a result, and so makes another job."""

    model_config = ConfigDict(validate_by_name=True, defer_build=True)

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
    skip_text: bool = Field(
        False,
        description="Do not send PDF pages with a usable text layer, but use that text; stored as a separate result",
    )
    trust_ocr_layers: bool = Field(
        False, description="With skip-text: also accept the invisible text that OCR programs add to scans"
    )
    mode: Literal["async", "sync", "auto"] = Field(
        "async",
        description="async: as jobs; sync: answered at once; auto: sync for short documents, async for the others",
    )
    sync_up_to: int = Field(10, ge=1, description="In mode auto: documents of up to this many pages are sent sync")
    max_pages: int | None = Field(None, ge=1, description="Maximum pages to send in this run; unlimited by default")
    page_budget: int | None = Field(None, ge=1, description="The older name of max_pages")
    max_cost: float | None = Field(
        None, gt=0, le=MOST, description="Maximum dollars to spend in this run; unlimited by default"
    )
    max_pages_per_day: int | None = Field(
        None, ge=1, description="Maximum pages to send in a day (UTC), over all runs that share the meter"
    )
    max_cost_per_day: float | None = Field(
        None, gt=0, le=MOST, description="Maximum dollars to spend in a day (UTC), over all runs that share the meter"
    )
    max_pages_per_month: int | None = Field(
        None, ge=1, description="Maximum pages to send in a calendar month (UTC), over all runs that share the meter"
    )
    max_cost_per_month: float | None = Field(
        None,
        gt=0,
        le=MOST,
        description="Maximum dollars to spend in a calendar month (UTC), over all runs that share the meter",
    )
    max_pages_per_document: int | None = Field(
        None, ge=1, description="Set aside documents with more pages, such as whole books that were not expected"
    )
    price_per_page: float | None = Field(
        None, ge=0, le=MOST, description="Contract price in dollars a page; the published price by default"
    )
    workers: int = Field(
        8,
        ge=1,
        le=64,
        description="Documents sent at the same time in this process; as many more are collected at the same time",
    )
    requests_per_second: Annotated[float, Field(gt=0, le=MOST)] | Literal["auto"] = Field(
        "auto",
        description="Maximum calls a second by this process; auto finds the account's limit, or this "
        "process's share of it",
    )
    pages_per_minute: Annotated[float, Field(gt=0, le=MOST)] | Literal["auto"] = Field(
        "auto",
        description="Maximum pages a minute by this process; auto finds the account's limit, or this "
        "process's share of it",
    )
    poll_seconds: float = Field(
        2, gt=0, le=MOST, description="Shortest wait between two polls of a job; grows with the job's age"
    )
    longest_poll_seconds: float = Field(600, gt=0, le=MOST, description="Longest wait between two polls of a job")
    lease_seconds: float = Field(
        60, ge=1, le=MOST, description="How long a claim stands after its worker died; a live worker renews it"
    )
    give_up_hours: float = Field(
        96, gt=0, le=MOST, description="When an unfinished request counts as lost; 72 hours are normal"
    )
    rounds: int = Field(3, ge=1, le=20, description="Total number of times that missing pages of a document are sent")
    refuse_restricted: bool = Field(
        False,
        description="Fail PDFs with an owner password (printing, copying) instead of sending an unencrypted copy",
    )
    limits: Limits = Field(default_factory=Limits, description="Limits of one API request")

    @property
    def price(self) -> float:
        """Dollars a page: the contract's price, or the published one."""
        return PRICE_PER_PAGE if self.price_per_page is None else self.price_per_page

    @model_validator(mode="after")
    def _text_can_be_taken(self) -> Self:
        if self.trust_ocr_layers and not self.skip_text:
            raise ValueError("trust-ocr-layers needs skip-text")
        if self.skip_text and self.answer_schema is not None:
            raise ValueError("skip-text returns the API's own answer shape: omit the schema")
        return self

    @property
    def text_layers(self) -> TextLayers | None:
        """Whose text stands for recognising a page; None where every page is recognised."""
        return None if not self.skip_text else "trust-ocr-layers" if self.trust_ocr_layers else "skip-text"

    @model_validator(mode="after")
    def _one_ceiling(self) -> Self:
        if None not in (self.max_pages, self.page_budget) and self.max_pages != self.page_budget:
            raise ValueError("max_pages and page_budget are two names of the same ceiling: give only one of them")
        return self

    @property
    def run_pages(self) -> int | None:
        """The most pages that the run may send, by whichever name it was given."""
        return self.page_budget if self.max_pages is None else self.max_pages


class Options(Recognition):
    """How a run over a bucket works."""

    budget: str | None = Field(
        None,
        description="s3://bucket/prefix of the daily and monthly meters, for several destinations to share; beside the "
        "ledger by default",
    )
    window: int = Field(
        1000, ge=1, le=100_000, description="Maximum number of open jobs; more are sent as these finish"
    )
    text: bool = Field(False, description="Also write the plain text beside each result, with form feeds between pages")
    pdf: bool = Field(
        False, description="Also write a searchable PDF beside each result: the document with its recognised text"
    )
    reuse_identical: bool = Field(
        False, description="Copy the result of a document with the same bytes instead of paying for it again"
    )
    shards: int = Field(
        1, ge=1, le=1000, description="Number of shards into which jobs are divided by hash, for concurrent runs"
    )
    shard: int = Field(1, ge=1, description="The shard that this run works on, from 1 to the number of shards")
    engine: Literal["threads", "dask", "ray"] = Field(
        "threads", description="What executes task runs: threads of this process, or processes of Dask or Ray"
    )
    processes: int = Field(
        1, ge=1, le=1000, description="With dask or ray: the number of processes, which share the rates"
    )
    cluster: str | None = Field(
        None, description="With dask or ray: the address of a cluster; one is started on this machine by default"
    )

    source: SourceOptions = Field(SourceOptions(), description="Settings for reading the documents' bucket")
    destination: DestinationOptions = Field(AS_IT_IS, description="Settings for writing results and the ledger")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shard > self.shards:
            raise ValueError(f"there is no shard {self.shard} of {self.shards}")
        if self.engine == "threads" and (self.processes > 1 or self.cluster):
            raise ValueError("threads run in one process: processes and cluster need the engine dask or ray")
        return self

    @field_validator("budget")
    @classmethod
    def _is_a_location(cls, budget: str | None) -> str | None:
        if budget is not None:
            try:
                Location.parse(budget)
            except SetupFault as fault:
                raise ValueError(str(fault)) from fault
        return budget

    def of_one_process(self, processes: int) -> Self:
        """The options of one of the processes of a run: the rates are for all of them. The budget they share."""
        return self._with(
            requests_per_second=_share(self.requests_per_second, processes),
            pages_per_minute=_share(self.pages_per_minute, processes),
        )

    def of_one_shard(self, shards: int) -> Self:
        """The options of one of so many runs beside one another: rates, budget and window are for all of them.

        Raises:
            ValueError: the budget has fewer pages than that.
        """
        ceiling = self.run_pages
        if ceiling is not None and ceiling < shards:
            raise ValueError(f"a budget of {ceiling} pages cannot be divided among {shards}")
        return self.of_one_process(shards)._with(
            max_pages=None if self.max_pages is None else self.max_pages // shards,
            page_budget=None if self.page_budget is None else self.page_budget // shards,
            max_cost=None if self.max_cost is None else self.max_cost / shards,
            window=max(1, self.window // shards),
        )

    def _with(self, **changes: object) -> Self:
        return self.model_validate({**dict(self), **changes})


def _share(rate: float | Literal["auto"], processes: int) -> float | Literal["auto"]:
    """A process's part of a rate that is given; those that learn theirs settle to shares by themselves."""
    return rate if rate == "auto" else rate / processes


class FileOptions(Recognition):
    """How local documents are recognised: at once where the API takes that, as jobs beyond."""

    mode: Literal["async", "sync", "auto"] = Field(
        "auto", description="auto: documents of up to --sync-up-to pages sync, longer ones as jobs"
    )
    sync_up_to: int = Field(100, ge=1, description="In mode auto: documents of up to this many pages are sent sync")


# As `prefect block ls` shows them. Keys for APIs and AWS have letters that these have not.
_UPSTAGE_BLOCK = r"^(upstage-account/)?[a-z0-9][a-z0-9-]*$"
_AWS_BLOCK = r"^((aws|minio)-credentials/)?[a-z0-9][a-z0-9-]*$"


class Credentials(SettingsModel):
    """Where the secrets are: in the environment of the process that works, or in blocks at the Prefect server.

    Names only, so this may travel and be shown.
    """

    model_config = ConfigDict(defer_build=True, hide_input_in_errors=True)

    upstage: str | None = Field(
        None,
        description="Name of a block 'Upstage account', for the API's key and address; UPSTAGE_API_KEY and "
        "UPSTAGE_BASE_URL by default",
        json_schema_extra={"pattern": _UPSTAGE_BLOCK},
    )
    aws: str | None = Field(
        None,
        description="Name of a block 'AWS Credentials', or minio-credentials/NAME, for S3; boto3's own chain "
        "(AWS_* variables, profile, role) by default",
        json_schema_extra={"pattern": _AWS_BLOCK},
    )

    source_aws: str | None = Field(
        None,
        description="The same for the source and its queue, if the documents belong to another account",
        json_schema_extra={"pattern": _AWS_BLOCK},
    )

    @field_validator("upstage", "aws", "source_aws")
    @classmethod
    def _is_a_name(cls, name: str | None, field: ValidationInfo) -> str | None:
        pattern = _UPSTAGE_BLOCK if field.field_name == "upstage" else _AWS_BLOCK
        if name is not None and not re.fullmatch(pattern, name):
            # Not said again: it may be a secret in the wrong place.
            raise ValueError(
                "this is not a block name: use lower-case letters, digits and dashes, as shown by 'prefect block ls'"
            )
        return name


ENVIRONMENT = Credentials()
DEFAULTS = Options()
FILE_DEFAULTS = FileOptions()


class RunSettings(SettingsModel):
    """What a step needs to know of its run; it travels with every task, so it holds no secret."""

    model_config = ConfigDict(defer_build=True)

    source: str | None = Field(None, description="s3://bucket/prefix of the documents")
    destination: str = Field(description="s3://bucket/prefix of the results and the ledger")
    selection: Selection = EVERYTHING
    options: Options = DEFAULTS
    credentials: Credentials = ENVIRONMENT
    backfill: str | None = Field(None, description="The named backfill that the run serves; it is recorded")
