"""The list of results is served to this machine alone, with their quality, and leads to each in the viewer."""

import http.client
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tasks.outputs.originals import Original
from tasks.outputs.results import ResultFile, find_results
from tasks.outputs.viewer.results_server import ResultsServer
from tests.outputs import pictured
from tests.outputs.result_samples import write_result
from tests.waiting import until

PAGES = [["Annual Report"], ["서울 시청에서 검색을"]]


@contextmanager
def beside(result: ResultFile, folder: Path) -> Iterator[Original]:
    del folder
    document = Path(result.address.removesuffix(".ocr.json"))
    yield Original(document if document.is_file() else None, result.document, "it was deleted")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ResultsServer]:
    place, folder = tmp_path / "results", tmp_path / "scratch"
    folder.mkdir()
    write_result(place / "a" / "report.pdf.ocr.json", PAGES, "older")
    (place / "a" / "report.pdf").write_bytes(pictured.document(PAGES, "PDF"))
    write_result(place / "gone.tif.ocr.json", [["a b c"]])
    write_result(place / "<script>harmed=1<" / "script>.png.ocr.json", [[]])
    (place / "broken.pdf.ocr.json").write_text("{")
    with ResultsServer(find_results(str(place)), beside, folder) as running:
        thread = threading.Thread(target=running.serve)
        thread.start()
        try:
            yield running
        finally:
            running.stop()
            thread.join()


def get(server: ResultsServer, path: str, host: str | None = None) -> tuple[int, bytes]:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.netloc)
    try:
        connection.request("GET", path, headers={"Host": host or parts.netloc})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_quality_of_each_result_is_told(server: ResultsServer) -> None:
    path = urlsplit(server.url).path
    assert server.count == 4
    found = [json.loads(get(server, f"{path}results/{number}/quality")[1]) for number in range(4)]
    assert {"pages": 1, "words": 3, "mean": pytest.approx(0.55), "lowest": 0.5, "doubtful": 3} in found
    assert {"pages": 1, "words": 0, "mean": None, "lowest": None, "doubtful": 0} in found
    assert [result["reason"] for result in found if "reason" in result] != []


def test_results_are_shown_with_pictures_or_with_the_reason_why_not(server: ResultsServer) -> None:
    path = urlsplit(server.url).path
    pages = {number: get(server, f"{path}results/{number}") for number in range(4)}
    assert sorted(status for status, _ in pages.values()) == [200, 200, 200, 500]
    (report,) = (number for number, (_, body) in pages.items() if b"report.pdf" in body)
    status, picture = get(server, f"{path}results/{report}/pictures/2")
    assert (status, Image.open(io.BytesIO(picture)).format) == (200, "WEBP")
    assert get(server, f"{path}results/{report}/pictures/3")[0] == 500
    (gone,) = (number for number, (_, body) in pages.items() if b"it was deleted" in body and b"gone.tif" in body)
    assert get(server, f"{path}results/{gone}/pictures/1")[0] == 404


def test_only_this_machine_is_answered_and_only_who_knows_the_path(server: ResultsServer) -> None:
    path = urlsplit(server.url).path
    assert server.url.startswith("http://127.0.0.1:")
    assert get(server, path)[0] == 200
    assert get(server, path, host="evil.example")[0] == 403
    assert get(server, "/")[0] == get(server, "/guessed/")[0] == 404
    for wrong in ("results/4", "results/-1", "results/x", "results/0/pictures/x", "results/0/../../", "other"):
        assert get(server, path + wrong)[0] == 404, wrong


def test_the_list_in_a_browser(server: ResultsServer, chromium: Chrome) -> None:
    chromium.get(server.url)

    def rows() -> dict[str, list[str]]:
        found = chromium.find_elements(By.CSS_SELECTOR, "#rows tr")
        return {
            row.find_element(By.TAG_NAME, "th").text: [c.text for c in row.find_elements(By.TAG_NAME, "td")]
            for row in found
        }

    until(lambda: rows()["gone.tif"] == ["1", "3", "55.0%", "50.0%", "3"])
    until(lambda: rows()["broken.pdf"][0] == "not read")
    assert "<script>harmed=1</script>.png" in rows(), "a name is text, and no markup"
    chromium.find_element(By.ID, "filter").send_keys("REPORT")
    assert [name for name in rows() if name] == ["a/report.pdf"]
    chromium.find_element(By.LINK_TEXT, "a/report.pdf").click()
    until(lambda: bool(chromium.find_elements(By.CSS_SELECTOR, "#sheet-1 img")))
    until(lambda: bool(chromium.execute_script("return document.querySelector('#sheet-1 img').naturalWidth")))
    assert [
        word.get_attribute("textContent") for word in chromium.find_elements(By.CSS_SELECTOR, "#sheet-1 .word")
    ] == ["Annual", "Report"]
