"""Flow runs as ECS tasks: Terraform's task definition, Prefect's ECS worker, an ECS API that starts real containers.

The API is ministack's. It resolves secrets and keeps logs, and ignores what is Fargate's: roles, sizes, disk, the init
process, the stop time. It tells EventBridge nothing of tasks, so the test sends that message.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from tests import sample_documents as documents
from tests.containers.engine import Engine
from tests.containers.images import OWN
from tests.containers.pools import PREFECT_INSIDE, Pool, deployed
from tests.containers.site import Site
from tests.containers.task_definition import run_task_definition
from tests.waiting import until

_PORT = 4566
_CLUSTER, _QUEUE, _LOGS = "bulk-ocr", "bulk-ocr-task-states", "/bulk-ocr/runs"
_ROLE = "arn:aws:iam::000000000000:role/bulk-ocr"


@dataclass(frozen=True)
class Ecs:
    """A cluster of the emulator, and a pool deployed to it."""

    pool: Pool
    url: str

    def client(self, service: str) -> Any:
        """A plain client of one service."""
        return client(self.url, service)

    def task(self, run: str) -> str:
        """The ARN of a flow run's task, once there is one."""
        return until(lambda: self._task(run), f"a task for run {run}")

    def _task(self, run: str) -> str | None:
        ecs = self.client("ecs")
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in ecs.list_tasks(cluster=_CLUSTER, desiredStatus=status)["taskArns"]
        ]
        tasks = ecs.describe_tasks(cluster=_CLUSTER, tasks=arns, include=["TAGS"])["tasks"] if arns else []
        of_run = {"key": "prefect.io/flow-run-id", "value": run}
        return next((str(task["taskArn"]) for task in tasks if of_run in task["tags"]), None)


@pytest.fixture(scope="module")
def ecs(services: Site, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ecs]:
    """What `deployments/aws` makes, as far as the emulator knows it, and a worker."""
    folder = tmp_path_factory.mktemp("ecs")
    name = f"{services.network}-aws"
    with engine.docker_api(folder) as socket:
        # As root, for the engine's socket.
        options = (
            *(f"--network={services.network}", "--network-alias=aws", "--tmpfs=/tmp:rw,mode=1777", "--user=0"),
            *(f"--volume={socket}:/run/docker.sock", f"--publish=127.0.0.1::{_PORT}"),
        )
        environment = {
            "SERVICES": "ecs,ec2,secretsmanager,logs,sqs,iam,sts",
            "DOCKER_HOST": "unix:///run/docker.sock",
            "BIND_HOST": "0.0.0.0",
            "GATEWAY_PORT": str(_PORT),
            "MINISTACK_REGION": REGION,
            "MINISTACK_DOCKER_TIMEOUT": "120",
            "SFTP_ENABLED": "false",
            "IOT_MTLS_ENABLED": "false",
        }
        with engine.container(
            OWN["local"], "python", "-m", "ministack", name=name, options=options, environment=environment
        ):
            url = engine.published(name, _PORT)
            until(lambda: engine.tried("exec", name, "python", "-c", _PROBE).returncode == 0, "the emulator")
            worker = {
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": S3_ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": S3_SECRET_KEY,
                "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME": _QUEUE,
            }
            try:
                job_variables = _set_up(services, url, folder)
            except LookupError as error:
                pytest.skip(str(error))
            pool = deployed(services, folder, "ecs", "ecs", None, worker, job_variables)
            with pool.ground.worker("ecs"):
                yield Ecs(pool, url)
            left = engine.podman("ps", "--all", "--quiet", "--filter", "label=com.amazonaws.ecs.cluster").split()
            engine.tried("rm", "--force", "--time", "5", *left)


_PROBE = f"__import__('urllib.request').request.urlopen('http://127.0.0.1:{_PORT}/_ministack/health',timeout=4)"


def test_a_flow_run_is_a_task_of_terraforms_definition_with_its_secrets_and_logs(ecs: Ecs) -> None:
    pool = ecs.pool
    pool.place.put({f"{number}.pdf": documents.text_pdf([f"task {number}"]) for number in range(3)})
    run = pool.start()
    assert pool.end(run)["type"] == "COMPLETED", pool.ground.log()
    assert len(pool.place.records("done")) == 3
    # Named in the definition by the ARN of a secret, and in no request.
    (task,) = ecs.client("ecs").describe_tasks(cluster=_CLUSTER, tasks=[ecs.task(run)])["tasks"]
    assert pool.services.inside["UPSTAGE_API_KEY"] not in json.dumps(task, default=str)
    logs = ecs.client("logs")
    (stream,) = logs.describe_log_streams(logGroupName=_LOGS)["logStreams"]
    assert stream["logStreamName"].startswith("run/prefect/")
    found = logs.get_log_events(logGroupName=_LOGS, logStreamName=stream["logStreamName"])["events"]
    assert any("3 done" in event["message"] for event in found)


def test_a_task_that_is_stopped_is_a_crash_and_taken_over(ecs: Ecs) -> None:
    pool, api = ecs.pool, ecs.pool.services.api()
    done, before = len(pool.place.records("done")), api.requests()
    pool.place.put({f"stopped-{number}.pdf": documents.text_pdf([f"stopped {number}"]) for number in range(30)})
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 2})
    try:
        run = pool.start()
        until(lambda: pool.place.records("open"), "a claim")
        # Fargate sends SIGTERM, and SIGKILL after the stop time. The emulator gives less time, which is worse.
        ecs.client("ecs").stop_task(cluster=_CLUSTER, task=ecs.task(run), reason="stopped by a person")
    finally:
        api.reset()
    (task,) = ecs.client("ecs").describe_tasks(cluster=_CLUSTER, tasks=[ecs.task(run)])["tasks"]
    sqs = ecs.client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=_QUEUE)["QueueUrl"], MessageBody=_state_change(task))
    assert pool.end(run)["type"] == "CRASHED"
    assert pool.end(pool.start())["type"] == "COMPLETED"
    assert len(pool.place.records("done")) == done + 30
    assert api.requests() - before - 30 <= pool.counted()


def _set_up(services: Site, url: str, folder: Path) -> dict[str, Any]:
    """Make what Terraform makes. Gives the deployments' job variables, as in `outputs.tf`.

    Raises:
        LookupError: Terraform is not installed.
    """
    (folder / "terraform").mkdir()
    secrets = client(url, "secretsmanager")
    values = {"upstage": services.inside["UPSTAGE_API_KEY"], "prefect": json.dumps({"PREFECT_API_URL": PREFECT_INSIDE})}
    arns = {
        name: secrets.create_secret(Name=f"bulk-ocr/{name}", SecretString=value)["ARN"]
        for name, value in values.items()
    }
    client(url, "logs").create_log_group(logGroupName=_LOGS)
    client(url, "sqs").create_queue(QueueName=_QUEUE)
    vpc = client(url, "ec2").create_vpc(CidrBlock="192.0.2.0/24")["Vpc"]["VpcId"]
    subnet = client(url, "ec2").create_subnet(VpcId=vpc, CidrBlock="192.0.2.0/25")["Subnet"]["SubnetId"]
    group = client(url, "ec2").create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
    plain = {name: value for name, value in services.inside.items() if "KEY" not in name}
    definition = run_task_definition(
        folder / "terraform",
        {
            "aws_iam_role.execution.arn": _ROLE,
            "aws_iam_role.run.arn": _ROLE,
            "aws_secretsmanager_secret.upstage.arn": arns["upstage"],
            "aws_secretsmanager_secret.prefect.arn": arns["prefect"],
            "aws_cloudwatch_log_group.runs.name": _LOGS,
        },
        region=REGION,
        source_address="s3://ecs/in",
        destination_address="s3://ecs/out",
        image=OWN["worker"],
        worker_image=OWN["worker"],
        vpc_id=vpc,
        subnet_ids=json.dumps([subnet]),
        prefect_credential="none",
        run_environment=json.dumps(plain),
    )
    # A task's role brings its keys on AWS; the emulator has no roles that the S3 server would know.
    keys = {name: services.inside[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    (container,) = definition["containerDefinitions"]
    container["environment"] += [{"name": name, "value": value} for name, value in keys.items()]
    ecs = client(url, "ecs")
    cluster = ecs.create_cluster(clusterName=_CLUSTER)["cluster"]["clusterArn"]
    task = ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]
    return {
        "cluster": cluster,
        "task_definition_arn": task,
        "launch_type": "FARGATE",
        "container_name": container["name"],
        "vpc_id": vpc,
        "network_configuration": {"subnets": [subnet], "securityGroups": [group], "assignPublicIp": "DISABLED"},
        # The worker's own address of the server is this machine's loopback.
        "env": {"PREFECT_API_URL": PREFECT_INSIDE},
    }


def _state_change(task: dict[str, Any]) -> str:
    """What EventBridge sends to the queue when a task has stopped."""
    detail = {
        "taskArn": task["taskArn"],
        "clusterArn": task["clusterArn"],
        "lastStatus": "STOPPED",
        "stopCode": "UserInitiated",
        "stoppedReason": "stopped by a person",
        "containers": [{"name": container["name"], "exitCode": 137} for container in task["containers"]],
    }
    return json.dumps({"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail})


def client(url: str, service: str) -> Any:
    """A plain client of one of the emulator's services."""
    session: Any = boto3.Session(S3_ACCESS_KEY, S3_SECRET_KEY, region_name=REGION)
    return session.client(service, endpoint_url=url)
