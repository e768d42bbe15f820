"""Creates the bucket of prefect.yaml and uploads the sample scans; runs in a container of the image `local`."""

import tempfile
from pathlib import Path

import boto3

from deployments.local.samples import make_samples

BUCKET = "bulk-ocr"

s3 = boto3.client("s3")
s3.create_bucket(Bucket=BUCKET)
with tempfile.TemporaryDirectory() as folder:
    for sample in make_samples(Path(folder)):
        s3.upload_file(str(sample.path), BUCKET, f"scans/{sample.path.relative_to(folder).as_posix()}")
print(f"s3://{BUCKET}/scans is ready")
