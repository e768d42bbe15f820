"""A Prefect server that refuses calls: before the work begins that is one sentence, later it is no reason to stop."""

import pytest

from deployments.local.stack import LocalStack
from tests import sample_documents as documents
from tests.flows.conftest import FAST, Command, Place, report_of
from tests.flows.prefect_proxy import PrefectProxy
from tests.store.flaky_s3 import Rule

AT_ONCE = {"PREFECT_CLIENT_MAX_RETRIES": "0"}  # Prefect's own patience takes minutes
ADVICE = {401: "set PREFECT_API_KEY or PREFECT_API_AUTH_STRING", 429: "try again later", 500: "look into its log"}


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("status", ADVICE)
def test_a_server_that_refuses_is_one_sentence_with_what_to_do(
    command: Command, place: Place, prefect: LocalStack, status: int
) -> None:
    place.put({"a.pdf": documents.text_pdf([f"refused {status}"])})
    with PrefectProxy(prefect.prefect_url) as proxy:
        proxy.fail(Rule("refuse", "/api/", times=-1, status=status))
        server = {"PREFECT_API_URL": f"{proxy.url}/api", **AT_ONCE}
        ran = command("run", place.source, place.destination, *FAST, **server)
        sentence = f"the Prefect server at {proxy.url}/api answers {status}: "
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran.stderr
        assert sentence in ran.stderr
        assert ADVICE[status] in ran.stderr
        checked = command("check", place.source, place.destination, "--json", **server)
    (found,) = [check for check in report_of(checked)["checks"] if check["part"] == "Prefect"]
    assert (checked.returncode, found["ok"]) == (2, False)
    assert f"answers {status}" in found["words"]
    assert place.keys() == set()


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_server_that_refuses_in_the_middle_stops_no_work(
    command: Command, place: Place, prefect: LocalStack, status: int
) -> None:
    place.put({f"{name}.pdf": documents.text_pdf([f"middle {status} {name}"]) for name in "abc"})
    with PrefectProxy(prefect.prefect_url) as proxy:
        # What comes after the run has begun: artifacts, logs, the flow run's last state.
        proxy.fail(Rule("refuse", "/api/(artifacts|logs)", times=-1, status=status))
        server = {"PREFECT_API_URL": f"{proxy.url}/api", **AT_ONCE}
        ran = command("run", place.source, place.destination, *FAST, "--json", **server)
    assert (ran.returncode, report_of(ran)["done"]) == (0, 3), ran.stderr
    assert "Traceback" not in ran.stderr
