"""Bucket options of source and destination: requester pays, owner, encryption, storage class, checksums."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tasks.settings_model import SettingsModel

_COLD = {"GLACIER", "DEEP_ARCHIVE"}


class BucketOptions(SettingsModel):
    """Options of both the source's and the destination's bucket. Contains no secrets: a profile is a name."""

    model_config = ConfigDict(defer_build=True)

    requester_pays: bool = Field(
        False, description="Pay for requests and transfer, if the bucket is set up as requester pays"
    )
    expected_owner: str | None = Field(
        None,
        pattern=r"^\d{12}$",
        description="Id of the AWS account that must own the bucket; calls to another account's bucket are refused",
    )
    profile: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="AWS profile on the machine where the run works, for this side only",
    )


class SourceOptions(BucketOptions):
    """How the documents' bucket is read."""


class DestinationOptions(BucketOptions):
    """How results and the ledger are written."""

    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, description="Server-side encryption of written objects; the bucket's default if omitted"
    )
    kms_key: str | None = Field(
        None,
        min_length=1,
        max_length=2048,
        description="Id, ARN or alias of the KMS key; the AWS managed key for S3 by default",
    )
    bucket_key: bool | None = Field(
        None, description="Use an S3 Bucket Key, which saves most calls to KMS; the bucket's setting by default"
    )
    storage_class: str | None = Field(
        None,
        pattern=r"^[A-Z0-9_-]{1,64}$",
        description="Storage class of results; the ledger's small objects stay in the bucket's default class",
    )
    checksum: Literal["md5", "crc32", "sha256"] | None = Field(
        None, description="Checksum sent with every object; a bucket with default Object Lock requires one"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kms_key is not None or self.bucket_key is not None) and not (self.encryption or "").startswith("aws:"):
            raise ValueError("a KMS key needs the encryption aws:kms or aws:kms:dsse: give that as well")
        if self.storage_class in _COLD:
            raise ValueError(f"objects stored as {self.storage_class} cannot be read immediately; choose another class")
        return self


AS_IT_IS = DestinationOptions()
"""Default options: a bucket without special requirements."""


def in_one_bucket(source: SourceOptions, destination: DestinationOptions) -> bool:
    """Whether both sides can be the same bucket: the source's options must not contradict the destination's."""
    names = BucketOptions.model_fields
    return all(getattr(source, name) in (getattr(destination, name), names[name].default) for name in names)
