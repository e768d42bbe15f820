"""Clusters over a network: of three processes in containers one is killed and one is cut off, or all of them die."""

import json

import pytest

from tests import sample_documents as documents
from tests.containers.clusters import DASK, RAY, Kind, cluster, cut, make_image, mend
from tests.containers.site import Site
from tests.flows.conftest import FAST, Place
from tests.waiting import until

_DOCUMENTS, _BUDGET, _PROCESSES = 24, 20, 3
_LEASE = ("--lease-seconds", "15")


@pytest.mark.parametrize("kind", [DASK, RAY], ids=lambda kind: kind.name)
def test_a_killed_and_a_cut_off_process_lose_and_double_nothing(services: Site, kind: Kind) -> None:
    engine, api, s3 = services.engine, services.api(), services.s3()
    make_image(engine, kind)
    s3.create_bucket(Bucket=kind.name)
    place = Place(kind.name, s3)
    texts = {f"{number:02}.pdf": [kind.name, str(number)] for number in range(_DOCUMENTS)}
    place.put({name: documents.text_pdf([" ".join(words)]) for name, words in texts.items()})
    before = api.requests()
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 1})
    command = ["bulk-ocr", "run", place.source, place.destination, *FAST, *_LEASE]
    with cluster(services, kind, _PROCESSES) as running:
        try:
            with running.run(*command, *running.arguments, "--page-budget", str(_BUDGET)) as run:
                until(lambda: place.records("open"), "a claim")
                engine.podman("kill", "--signal", "KILL", running.processes[0])
                cut(engine, running.processes[1])
                until(lambda: api.requests() - before >= _BUDGET // 2, "half the budget")
                mend(engine, running.processes[1])
                engine.podman("wait", run)
                ended = engine.inspect(run)["State"]["ExitCode"]
                logs = engine.tried("logs", run)
        finally:
            api.reset()
        # The budget is used up, or some documents wait for the leases of the processes that are gone.
        assert ended in (1, 4), logs.stderr[-3000:]
        assert api.requests() - before <= _BUDGET
        with running.run(*command) as run:
            engine.podman("wait", run)
            assert engine.inspect(run)["State"]["ExitCode"] == 0, engine.tried("logs", run).stderr[-3000:]
    records, results = place.records("done"), place.results()
    assert len(records) == _DOCUMENTS
    found = {key.removesuffix(".ocr.json"): json.loads(body)["pages"][0]["text"] for key, body in results.items()}
    assert {name: text.split() for name, text in found.items()} == texts
    counted = sum(record["job"]["possible_duplicates"] for record in records)
    assert api.requests() - before - _DOCUMENTS <= counted


@pytest.mark.parametrize("kind", [DASK, RAY], ids=lambda kind: kind.name)
def test_a_cluster_that_loses_all_its_processes_ends_the_run_and_the_next_does_the_rest(
    services: Site, kind: Kind
) -> None:
    engine, api = services.engine, services.api()
    make_image(engine, kind)
    place = Place(f"{kind.name}-gone", services.s3())
    place.s3.create_bucket(Bucket=place.bucket)
    place.put({f"{number}.pdf": documents.text_pdf([f"{place.bucket} {number}"]) for number in range(_DOCUMENTS)})
    before = api.requests()
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 1})
    command = ["bulk-ocr", "run", place.source, place.destination, *FAST, *_LEASE]
    with cluster(services, kind, 2) as running:
        try:
            with running.run(*command, *running.arguments) as run:
                until(lambda: place.records("open"), "a claim")
                engine.podman("kill", "--signal", "KILL", *running.processes)
                assert engine.podman("wait", run) == "2", engine.tried("logs", run).stderr[-3000:]
                assert f"the cluster at {kind.address} has had no processes for" in engine.tried("logs", run).stderr
        finally:
            api.reset()
        with running.run(*command) as run:
            assert engine.podman("wait", run) == "0", engine.tried("logs", run).stderr[-3000:]
    records = place.records("done")
    assert len(records) == _DOCUMENTS
    counted = sum(record["job"]["possible_duplicates"] for record in records)
    assert api.requests() - before - _DOCUMENTS <= counted
