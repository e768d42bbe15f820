"""Everything that can be set for a run, with bounds: one typed model for the command line, the flows and the UI."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tasks.job.record import AnswerSchema
from tasks.selection import EVERYTHING, Selection
from tasks.store.settings import AS_IT_IS, DestinationOptions, SourceOptions
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
        60, ge=1, description="How long a claim holds after its worker died; a living worker renews it"
    )
    give_up_hours: float = Field(96, gt=0, description="When an unfinished request counts as lost; 72 hours are normal")
    rounds: int = Field(3, ge=1, le=20, description="How often the missing pages of a document are sent, in all")
    refuse_restricted: bool = Field(
        False,
        description="Fail PDFs that an owner password restricts (printing, copying), instead of sending a copy without "
        "encryption",
    )
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
    shards: int = Field(
        1, ge=1, le=1000, description="Into how many shards the jobs are divided, by hash, for runs beside one another"
    )
    shard: int = Field(1, ge=1, description="Which of the shards this run works on: 1 to the number of shards")
    engine: Literal["threads", "dask", "ray"] = Field(
        "threads", description="What task runs work on: threads of this process, or processes of Dask or Ray"
    )
    processes: int = Field(
        1, ge=1, le=1000, description="Of dask or ray: how many processes; the rates are shared out over them"
    )
    cluster: str | None = Field(
        None, description="Of dask or ray: the address of a cluster; one is started on this machine when left out"
    )

    source: SourceOptions = Field(SourceOptions(), description="How the documents' bucket is read")
    destination: DestinationOptions = Field(AS_IT_IS, description="How results and the ledger are written")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shard > self.shards:
            raise ValueError(f"there is no shard {self.shard} of {self.shards}")
        if self.engine == "threads" and (self.processes > 1 or self.cluster):
            raise ValueError("threads work in one process: processes and cluster go with the engines dask and ray")
        return self

    def of_one_process(self, processes: int) -> Self:
        """The options of one of the processes of a run: the rates are for all of them. The budget they share."""
        return self._with(
            requests_per_second=self.requests_per_second / processes,
            pages_per_minute=self.pages_per_minute / processes,
        )

    def of_one_shard(self, shards: int) -> Self:
        """The options of one of so many runs beside one another: rates, budget and window are for all of them.

        Raises:
            ValueError: the budget has fewer pages than that.
        """
        if self.page_budget is not None and self.page_budget < shards:
            raise ValueError(f"a budget of {self.page_budget} pages cannot be shared out to {shards}")
        return self.of_one_process(shards)._with(
            page_budget=None if self.page_budget is None else self.page_budget // shards,
            window=max(1, self.window // shards),
        )

    def _with(self, **changes: object) -> Self:
        return self.model_validate({**dict(self), **changes})


class FileOptions(Recognition):
    """How local documents are recognised: at once where the API takes that, as jobs beyond."""

    mode: Literal["async", "sync", "auto"] = Field(
        "auto", description="auto: documents of up to --sync-up-to pages at once, longer ones as jobs"
    )
    sync_up_to: int = Field(100, ge=1, description="In mode auto: documents of up to so many pages are sent sync")


# As `prefect block ls` shows them. Keys for APIs and AWS have letters that these have not.
_UPSTAGE_BLOCK = r"^(upstage-account/)?[a-z0-9][a-z0-9-]*$"
_AWS_BLOCK = r"^((aws|minio)-credentials/)?[a-z0-9][a-z0-9-]*$"


class Credentials(BaseModel):
    """Where the secrets are: in the environment of the process that works, or in blocks at the Prefect server.

    Names only, so this may travel and be shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    upstage: str | None = Field(
        None,
        description="Name of a block 'Upstage account', for the API's key and address; UPSTAGE_API_KEY and "
        "UPSTAGE_BASE_URL when left out",
        json_schema_extra={"pattern": _UPSTAGE_BLOCK},
    )
    aws: str | None = Field(
        None,
        description="Name of a block 'AWS Credentials', or minio-credentials/NAME, for S3; boto3's own chain "
        "(AWS_* variables, profile, role) when left out",
        json_schema_extra={"pattern": _AWS_BLOCK},
    )

    source_aws: str | None = Field(
        None,
        description="The same for the source and its queue alone, where the documents are another account's",
        json_schema_extra={"pattern": _AWS_BLOCK},
    )

    @field_validator("upstage", "aws", "source_aws")
    @classmethod
    def _is_a_name(cls, name: str | None, field: ValidationInfo) -> str | None:
        pattern = _UPSTAGE_BLOCK if field.field_name == "upstage" else _AWS_BLOCK
        if name is not None and not re.fullmatch(pattern, name):
            # Not said again: it may be a secret in the wrong place.
            raise ValueError(
                "this is no block's name: small letters, digits and dashes, as 'prefect block ls' shows it"
            )
        return name


ENVIRONMENT = Credentials()
DEFAULTS = Options()
FILE_DEFAULTS = FileOptions()


class RunSettings(BaseModel):
    """What a step needs to know of its run; it travels with every task, so it holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = Field(None, description="s3://bucket/prefix of the documents")
    destination: str = Field(description="s3://bucket/prefix of the results and the ledger")
    selection: Selection = EVERYTHING
    options: Options = DEFAULTS
    credentials: Credentials = ENVIRONMENT
