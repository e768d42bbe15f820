"""`prefect.yaml` is what `places.yaml` says, Prefect understands all of it, and mistakes are told where they are."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from pydantic import BaseModel

from deployments.render.__main__ import ROOT
from deployments.render.deployments import render
from deployments.render.places import FLOWS, Places
from deployments.render.reading import PlacesError, read_places
from flows.listen import listen as flow
from tasks.options import RunSettings
from tests.waiting import PATIENCE

COMMITTED = ROOT / "deployments" / "places.yaml"
ENVIRONMENTS = tuple(read_places(COMMITTED).environments)

MINIMAL = """\
defaults: {work_pool: pool}
environments:
  local: {}
places:
  - name: scans
    source: s3://bucket/in
    destination: s3://bucket/out
"""


def _read(tmp_path: Path, text: str) -> Places:
    path = tmp_path / "places.yaml"
    path.write_text(text)
    return read_places(path)


def _deployments(places: Places, environment: str = "local") -> dict[str, dict[str, Any]]:
    return {deployment["name"]: deployment for deployment in yaml.safe_load(render(places, environment))["deployments"]}


def _unknown(given: dict[str, Any], model: type[BaseModel]) -> set[str]:
    return set(given) - {field.alias or name for name, field in model.model_fields.items()}


def test_the_committed_file_is_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "deployments.render", "--check"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_prefect_knows_every_key(environment: str) -> None:
    # It ignores the keys of a deployment that it does not know, and skips all deployments for those of a schedule.
    content = yaml.safe_load(render(read_places(COMMITTED), environment))
    assert not _unknown(content, PrefectYamlModel)
    for deployment in content["deployments"]:
        assert not _unknown(deployment, DeploymentConfig)
        assert not _unknown(deployment["work_pool"], WorkPoolConfig)
        assert not _unknown(deployment["concurrency_limit"], ConcurrencyLimitSpec)
        ConcurrencyLimitStrategy(deployment["concurrency_limit"]["collision_strategy"])
        for schedule in deployment.get("schedules", []):
            given = RawScheduleConfig.model_validate(schedule)
            if given.cron:
                CronSchedule(cron=given.cron, timezone=given.timezone)
            else:
                assert given.interval
                IntervalSchedule(interval=given.interval)
        assert all(deployment[key] for key in ("name", "description", "tags"))
    PrefectYamlModel.model_validate(content)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_flows_take_the_parameters(environment: str) -> None:
    for name, deployment in _deployments(read_places(COMMITTED), environment).items():
        parameters = deployment["parameters"]
        RunSettings.model_validate(parameters)
        assert ("source" in parameters) == (not name.startswith("collect"))


def test_a_place_makes_three_deployments_and_the_list_is_one_list(tmp_path: Path) -> None:
    more = "  - {name: mail, source: s3://other/in, destination: s3://other/out}\n"
    made = _deployments(_read(tmp_path, MINIMAL + more))
    assert list(made) == [f"{flow}-{name}" for name in ("scans", "mail") for flow in FLOWS]
    assert made["submit-mail"]["parameters"] == {"source": "s3://other/in", "destination": "s3://other/out"}
    assert made["collect-mail"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert made["backfill-mail"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_the_later_layer_wins_name_by_name(tmp_path: Path) -> None:
    places = _read(
        tmp_path,
        """\
defaults:
  work_pool: pool
  job_variables: {env: {A: "1", B: "1"}}
  options: {workers: 2, window: 5, limits: {pages: 10}}
  submit: {schedule: {cron: "0 * * * *", timezone: Europe/Berlin}}
  backfill: {schedule: {cron: "0 0 * * *"}}
environments:
  local: {}
  production:
    work_pool: cloud
    values: {bucket: real}
    job_variables: {env: {B: "2"}}
    options: {workers: 3, schema: clova}
places:
  - name: scans
    source: s3://${bucket}/in
    destination: s3://${bucket}/out
    only: [production]
    selection: {include: ["**/*.pdf"]}
    options: {window: 7}
    submit: {schedule: {every: 30}, options: {workers: 4}}
    backfill: {schedule: null}
""",
    )
    assert not _deployments(places, "local")
    made = _deployments(places, "production")
    submit, collect = made["submit-scans"], made["collect-scans"]
    shared = {"window": 7, "limits": {"pages": 10}, "schema": "clova"}
    assert submit["parameters"]["options"] == {**shared, "workers": 4}
    assert submit["parameters"]["selection"] == {"include": ["**/*.pdf"]}
    assert submit["parameters"]["source"] == "s3://real/in"
    assert collect["parameters"] == {"destination": "s3://real/out", "options": {**shared, "workers": 3}}
    assert submit["work_pool"] == {"name": "cloud", "job_variables": {"env": {"A": "1", "B": "2"}}}
    [schedule] = submit["schedules"]
    assert (schedule["interval"], "cron" in schedule) == (30, False)
    assert "schedules" not in made["backfill-scans"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "source: s3://bucket/in",
            "source: bucket/in",
            ":6: place scans, source: in the environment local: 'bucket/in'",
        ),
        (
            "source: s3://bucket/in",
            "source: s3://${bucket}/in",
            ":6: place scans, source: in the environment local: ${bu",
        ),
        ("s3://bucket/out", "s3://bucket/in/", ":7: place scans, destination: in the environment local: source and"),
        ("name: scans", "name: Scans!", ":5: place Scans!, name: "),
        ("name: scans", "nmae: scans", ":5: place 1, nmae: there is no such setting: did you mean name?"),
        (
            "local: {}",
            "local: {work_pol: x}",
            ":3: environment local, work_pol: there is no such setting: did you mean work_pool?",
        ),
        (
            "local: {}",
            "local: {options: {workers: 65}}",
            ":3: environment local, options.workers: Input should be less",
        ),
        ("local: {}", "local: {selection: {min_bytes: -1}}", ":3: environment local, selection.min_bytes: "),
        ("local: {}", "local: {submit: {schedule: {cron: often}}}", ":3: environment local, submit.schedule.cron: "),
        ("local: {}", "local: {submit: {schedule: {}}}", "submit.schedule: give either cron or every"),
        ("local: {}", 'local: {submit: {schedule: {cron: "* * * * *", timezone: CEST9}}}', "is not a time zone"),
        ("local: {}", "local: {job_variables: {env: {UPSTAGE_API_KEY: up_1}}}", "looks like a secret"),
        ("local: {}", "local: {job_variables: {env: {X: '{{ $AWS_SECRET_ACCESS_KEY }}'}}}", "for everybody to read"),
        ("local: {}", "local: {job_variables: {env: {X: '{{ prefect.blocks.secret.x }}'}}}", "base job template"),
        ("{work_pool: pool}", "{}", ":3: environment local: no work_pool"),
        (
            "  - name: scans",
            "  - {name: scans, source: s3://abc, destination: s3://abc/x}\n  - name: scans",
            ":6: place sc",
        ),
        ("local: {}", "local: {}\n  local: {}", ":4: 'local' is already in line 3"),
        ("places:", "places: [", "places.yaml"),
        (
            "    source:",
            "    queue: documents\n    source:",
            ":6: place scans, queue: in the environment local: 'documents'",
        ),
        (
            "    source:",
            "    queue: 'https://x/${y}'\n    source:",
            "queue: in the environment local: ${y} is not one of its",
        ),
        (
            "    source:",
            "    selection: {key: [a]}\n    queue: https://x/y\n    source:",
            ":7: place scans, queue: the queue",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in MINIMAL
    with pytest.raises(PlacesError) as raised:
        _read(tmp_path, MINIMAL.replace(old, new, 1))
    assert told in str(raised.value)


def test_job_variables_may_say_where_a_secret_is(tmp_path: Path) -> None:
    variables = "{prefect_api_key_secret_arn: 'arn:aws:x', secret_name: bulk-ocr, image: 'bulk-ocr:{{ $VERSION }}'}"
    made = _deployments(_read(tmp_path, MINIMAL.replace("local: {}", f"local: {{job_variables: {variables}}}")))
    assert made["submit-scans"]["work_pool"]["job_variables"]["secret_name"] == "bulk-ocr"


def test_names_of_blocks_become_parameters_and_a_key_in_their_place_is_not_repeated(tmp_path: Path) -> None:
    places_text = MINIMAL.replace("local: {}", "local: {credentials: {upstage: prod, aws: minio-credentials/prod}}")
    places_text = places_text.replace("    source:", "    credentials: {upstage: scans}\n    source:")
    for deployment in _deployments(_read(tmp_path, places_text)).values():
        assert deployment["parameters"]["credentials"] == {"upstage": "scans", "aws": "minio-credentials/prod"}
    with pytest.raises(PlacesError, match=r":3: environment local, credentials.upstage: .* not a block name") as raised:
        _read(tmp_path, MINIMAL.replace("local: {}", "local: {credentials: {upstage: up_KEY}}"))
    assert "up_KEY" not in str(raised.value)


def test_a_place_may_serve_a_named_backfill(tmp_path: Path) -> None:
    queue = "    queue: https://sqs.us-east-1.amazonaws.com/1/documents\n"
    found = _deployments(_read(tmp_path, MINIMAL + queue + "    backfill_name: four-years\n"))
    named = {name: each["parameters"].get("name") for name, each in found.items()}
    assert named.pop("collect-scans") is None, "it collects whatever is open"
    assert set(named.values()) == {"four-years"}
    with pytest.raises(PlacesError, match="backfill_name"):
        _read(tmp_path, MINIMAL + "    backfill_name: four years\n")


def test_collecting_runs_between_the_submits(tmp_path: Path) -> None:
    every = "{schedule: {every: 60}}"
    made = _deployments(_read(tmp_path, MINIMAL.replace("local: {}", f"local: {{submit: {every}, collect: {every}}}")))
    anchors = [made[f"{flow}-scans"]["schedules"][0]["anchor_date"] for flow in ("submit", "collect")]
    assert anchors == ["2024-01-01T00:00:00+00:00", "2024-01-01T00:00:30+00:00"]


def test_a_place_in_shards_makes_so_many_of_each_and_shares_out_what_is_the_accounts(tmp_path: Path) -> None:
    place_text = (
        "    shards: 2\n    options: {requests_per_second: 2, pages_per_minute: 600, page_budget: 101}\n"
        "    backfill: {options: {window: 50}}\n"
    )
    made = _deployments(_read(tmp_path, MINIMAL + place_text))
    assert list(made) == [f"{flow}-scans-{shard}-of-2" for flow in FLOWS for shard in (1, 2)]
    shares = [made[f"backfill-scans-{shard}-of-2"]["parameters"]["options"] for shard in (1, 2)]
    account = {"requests_per_second": 1.0, "pages_per_minute": 300.0, "page_budget": 50, "window": 25}
    assert shares == [{**account, "shards": 2, "shard": shard} for shard in (1, 2)]
    with pytest.raises(PlacesError, match=r"place scans, shards: .* a budget of 1 pages cannot be divided among 2"):
        _read(tmp_path, MINIMAL + place_text.replace("101", "1"))
    with pytest.raises(PlacesError, match="set 'shards' beside the options"):
        _read(tmp_path, MINIMAL + "    options: {shards: 2}\n")


def test_a_place_with_a_queue_listens_to_it(tmp_path: Path) -> None:
    queue = "    queue: https://sqs.${region}.amazonaws.com/1/documents\n    shards: 2\n"
    values = "local: {values: {region: eu-central-1}}"
    made = _deployments(_read(tmp_path, MINIMAL.replace("local: {}", values) + queue))
    assert [name for name in made if name.startswith("listen")] == ["listen-scans"]
    listen = made["listen-scans"]
    assert listen["entrypoint"] == "flows.listen.listen"
    assert listen["parameters"] == {
        "source": "s3://bucket/in",
        "destination": "s3://bucket/out",
        "queue": "https://sqs.eu-central-1.amazonaws.com/1/documents",
        "seconds": 570,
    }
    assert listen["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert listen["schedules"][0]["interval"] == 600
    assert "https://sqs.eu-central-1" in listen["description"]
    assert "listen-scans" in _deployments(_read(tmp_path, MINIMAL + queue.replace("${region}", "x")))

    listen_text = "    listen: {seconds: 50, schedule: {every: 60}, options: {workers: 2}}\n"
    listen = _deployments(_read(tmp_path, MINIMAL.replace("local: {}", values) + queue + listen_text))["listen-scans"]
    assert (listen["schedules"][0]["interval"], listen["parameters"]["seconds"]) == (60, 50)
    assert listen["parameters"]["options"] == {"workers": 2}
    assert set(listen["parameters"]) <= set(flow.parameters.properties)
    RunSettings.model_validate({key: listen["parameters"][key] for key in ("source", "destination", "options")})


def test_names_that_yaml_would_take_for_something_else_stay_names(tmp_path: Path) -> None:
    assert _read(tmp_path, MINIMAL)
    made = _deployments(_read(tmp_path, MINIMAL.replace("pool}", "'yes', tags: ['1e3', 'null', '12:30']}")))
    assert made["submit-scans"]["work_pool"]["name"] == "yes"
    assert made["submit-scans"]["tags"][-3:] == ["1e3", "null", "12:30"]
