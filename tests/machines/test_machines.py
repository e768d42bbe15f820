"""Three workers share a backfill, on two API servers, PostgreSQL and Redis; one is killed in the middle."""

from pathlib import Path
from typing import TYPE_CHECKING

from deployments.local.stack import LocalStack
from tests.machines.backfill import machines, play
from tests.machines.servers import servers
from tests.stand_in import StandInControl

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_DOCUMENTS = 36


def test_a_worker_killed_in_the_middle_of_a_shared_backfill_loses_and_doubles_nothing(
    tmp_path: Path, stack: LocalStack, s3: "S3Client", api: StandInControl
) -> None:
    with servers(tmp_path / "prefect") as prefect:
        grounds = machines(prefect, stack, tmp_path, 3)
        found = play(grounds, s3, api, _DOCUMENTS, kill=True)
        assert found.left > 0  # the killed worker's share was there to be lost
        assert found.lost == 0
        assert found.billed_twice <= found.counted
        # A backfill by each of the three, and one over the rest.
        assert prefect.rows()["flow_run"] == 4
