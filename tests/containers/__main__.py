"""Measures the same run on clusters of one, two and four processes, each in a container: `python -m tests.containers`.

Every submission takes a second, as over a network: that time is what more processes share out. All containers are on
one machine, so its processors are shared out too.
"""

import argparse
import os
import time

from tests import sample_documents as documents
from tests.containers.clusters import DASK, RAY, cluster, make_image
from tests.containers.engine import Engine, default_folder, require_engine
from tests.containers.images import make_base, make_own
from tests.containers.site import Site, site
from tests.flows.conftest import FAST, Place

_KINDS = {kind.name: kind for kind in (DASK, RAY)}


def main() -> None:
    """Measure and print a table for docs/machines.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("engine", choices=_KINDS)
    parser.add_argument("--documents", type=int, default=48, help="how many in each run, of a page")
    given = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"
    require_engine()
    engine = Engine(default_folder())
    make_base(engine)
    make_own(engine, "server", "local")
    make_image(engine, _KINDS[given.engine])
    with site(engine) as services:
        print("| engine | processes | documents | seconds | of one process's | requests |")
        print("|---|--:|--:|--:|--:|--:|")
        alone = 0.0
        for processes in (1, 2, 4):
            seconds, requests = _run(services, given.engine, processes, given.documents)
            alone = alone or seconds
            cells = [given.engine, processes, given.documents, f"{seconds:.0f}", f"{seconds / alone:.2f}", requests]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _run(services: Site, name: str, processes: int, count: int) -> tuple[float, int]:
    """Seconds and requests of one run, from its container's start to its end."""
    engine, api, s3 = services.engine, services.api(), services.s3()
    bucket = f"{name}-{processes}"
    s3.create_bucket(Bucket=bucket)
    place = Place(bucket, s3)
    place.put({f"{number}.pdf": documents.text_pdf([f"{bucket} {number}"]) for number in range(count)})
    before = api.requests()
    api.fail({"action": "delay", "method": "POST", "path": "document-digitization", "times": -1, "seconds": 1})
    try:
        with cluster(services, _KINDS[name], processes) as running:
            begun = time.monotonic()
            with running.run("bulk-ocr", "run", place.source, place.destination, *FAST, *running.arguments) as run:
                assert engine.podman("wait", run) == "0", engine.tried("logs", run).stderr
                seconds = time.monotonic() - begun
    finally:
        api.reset()
    assert len(place.records("done")) == count
    return seconds, api.requests() - before


if __name__ == "__main__":
    main()
