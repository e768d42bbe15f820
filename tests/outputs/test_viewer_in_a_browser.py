"""The viewer in headless Chromium, with clicks and keys."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tasks.outputs.viewer.viewer_page import Viewed, write_viewer
from tests.outputs import pictured
from tests.outputs.result_samples import Lines, write_result
from tests.waiting import until

LONG: list[Lines] = [
    [f"Page number{n} of the Annual Report", "검색을 하다" if n % 10 == 0 else "nothing here"] for n in range(1, 61)
]


class Viewer:
    """The viewer's page in a browser, as somebody uses it."""

    def __init__(self, browser: Chrome, file: Path) -> None:
        self.browser = browser
        self._file = file

    def open(self, fragment: str = "") -> "Viewer":
        self.browser.get("about:blank")
        self.browser.get(self._file.as_uri() + fragment)
        until(lambda: self.script("return document.documentElement.dataset.ready") == "true")
        return self

    def script(self, code: str) -> Any:
        return self.browser.execute_script(code)

    def find(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def texts(self, selector: str) -> list[str]:
        return [
            str(text)
            for text in self.script(f"return [...document.querySelectorAll({selector!r})].map(e => e.textContent)")
        ]

    def says(self, selector: str, text: str) -> None:
        """Wait until an element says so."""
        until(lambda: self.texts(selector) == [text])

    @property
    def page(self) -> str:
        return str(self.one("#page").get_property("value"))


@pytest.fixture(scope="session")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer")
    (folder / "long.pdf").write_bytes(pictured.document(LONG, "PDF"))
    result = write_result(folder / "long.pdf.ocr.json", LONG, "older")
    with (folder / "long.html").open("w", encoding="utf-8") as out:
        write_viewer(result, out, Viewed("long.pdf", str(result), folder / "long.pdf"))
    return folder / "long.html"


@pytest.fixture
def viewer(chromium: Chrome, long_page: Path) -> Viewer:
    return Viewer(chromium, long_page).open()


@pytest.fixture(autouse=True)
def _nothing_is_complained_of(chromium: Chrome) -> Iterator[None]:
    chromium.get_log("browser")
    yield
    complaints = chromium.get_log("browser")
    assert [entry["message"] for entry in complaints if entry["level"] == "SEVERE"] == []


def test_pages_are_shown_as_they_are_scrolled_to(viewer: Viewer) -> None:
    until(lambda: viewer.texts("#sheet-1 .word")[:2] == ["Page", "number1"])
    until(lambda: viewer.script("return document.querySelector('#sheet-1 img').naturalWidth > 0"))
    assert viewer.texts("#of") == ["/ 60"]
    shown = len(viewer.find(".sheet img"))
    assert shown < 10, "pictures far away are not loaded"
    viewer.press(Keys.ARROW_RIGHT)
    assert viewer.page == "2"
    number = viewer.one("#page")
    number.send_keys(Keys.CONTROL + "a")
    number.send_keys("50", Keys.ENTER)
    until(lambda: viewer.texts("#sheet-50 .word")[1:2] == ["number50"])
    until(lambda: not viewer.find("#sheet-1 img"))
    assert len(viewer.find(".sheet img")) < 10, "pages that were left are let go"
    assert viewer.texts("#status") == ["Page 50 of 60"]
    assert "검색을 하다" in viewer.texts("#sheet-50 .text")[0]


def test_a_word_lies_over_its_picture(viewer: Viewer) -> None:
    until(lambda: bool(viewer.find("#sheet-1 .word")))
    left, top, width, height = viewer.script(
        "const sheet = document.querySelector('#sheet-1 .sheet').getBoundingClientRect();"
        "const word = document.querySelectorAll('#sheet-1 .word')[1].getBoundingClientRect();"
        "return [(word.left - sheet.left) / sheet.width, (word.top - sheet.top) / sheet.height,"
        " word.width / sheet.width, word.height / sheet.height]"
    )
    assert (left, top, width, height) == pytest.approx((0.2, 100 / 1400, 0.14, 30 / 1400), abs=0.002)


def test_the_slider_shades_words_of_low_confidence(viewer: Viewer) -> None:
    until(lambda: bool(viewer.find("#sheet-1 .word")))
    assert viewer.texts("#sheet-1 .doubt") == ["Page", "number1", "of", "the", "Annual", "Report"]
    slider = viewer.one("#shade")
    slider.send_keys(Keys.ARROW_LEFT * 24)  # by steps of one percent, from 80 to 56
    assert viewer.texts("#sheet-1 .doubt") == ["Page", "number1"]
    assert viewer.texts("#shade-value") == ["56%"]
    assert viewer.texts("#doubts") == ["120 words"]
    viewer.script("document.getElementById('pages').focus()")
    viewer.press("l")
    viewer.press("l")
    viewer.press("l")
    assert viewer.texts("#status") == ["Page, 50%, page 2"]
    viewer.press("L")
    assert viewer.texts("#status") == ["number1, 55%, page 1"]
    assert "55.0%" in str(viewer.one("#sheet-1 .word:nth-child(2)").get_attribute("title"))


def test_search_marks_hits_on_page_text_and_list(viewer: Viewer) -> None:
    viewer.press("/")
    viewer.press("annual rep")
    viewer.says("#found", "1 of 60")
    assert viewer.texts("#sheet-1 .word.hit") == ["Annual", "Report"]
    assert viewer.texts("#sheet-1 .word.current") == ["Annual", "Report"]
    assert viewer.texts("#sheet-1 .text mark") == ["Annual Rep"]
    assert viewer.texts("#hits-title") == ["60 hits"]
    viewer.press(Keys.ENTER)
    viewer.says("#found", "2 of 60")
    ActionChains(viewer.browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    viewer.says("#found", "1 of 60")
    viewer.find("#hit-list button")[40].click()
    viewer.says("#found", "41 of 60")
    until(lambda: viewer.texts("#sheet-41 .word.current") == ["Annual", "Report"])
    assert viewer.page == "41"
    viewer.one("#search").clear()
    viewer.one("#search").send_keys("검색")
    viewer.says("#hits-title", "6 hits")
    viewer.one("#search").send_keys("않")
    viewer.says("#found", "no hits")
    viewer.one("#search").send_keys(Keys.ESCAPE)
    viewer.says("#found", "")
    assert not viewer.one("#hits").is_displayed()


def test_a_link_leads_to_a_page_and_a_search(viewer: Viewer) -> None:
    viewer.open("#page=30&search=%EA%B2%80%EC%83%89")
    viewer.says("#found", "3 of 6")
    until(lambda: viewer.texts("#sheet-30 .word.current") == ["검색을"])


def test_keys_zoom_and_change_theme_and_text(viewer: Viewer) -> None:
    def width() -> float:
        return float(viewer.script("return document.querySelector('.sheet').getBoundingClientRect().width"))

    before = width()
    viewer.press("+")
    assert width() == pytest.approx(before * 1.2, rel=0.01)
    viewer.press("0")
    assert width() == pytest.approx(before, rel=0.01)
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = viewer.script(paper)
    viewer.press("d", "d")
    assert viewer.script("return document.documentElement.dataset.theme") == "dark"
    assert viewer.script(paper) != light
    viewer.press("t")
    assert not viewer.one("#sheet-1 .text").is_displayed()
    viewer.press("?")
    assert viewer.one("#keys").is_displayed()
    viewer.press(Keys.ESCAPE)
    assert not viewer.one("#keys").is_displayed()


def test_text_is_copied(viewer: Viewer) -> None:
    until(lambda: bool(viewer.find("#sheet-1 .word")))
    copied = _clipboard(viewer)
    viewer.press("c")
    until(lambda: copied() == "Page number1 of the Annual Report \nnothing here")
    viewer.script(
        "const words = document.querySelectorAll('#sheet-1 .word');"
        "getSelection().setBaseAndExtent(words[4].firstChild.firstChild, 0, words[7].firstChild.firstChild, 4)"
    )
    viewer.browser.execute_cdp_cmd(
        "Input.dispatchKeyEvent", {"type": "keyDown", "key": "c", "modifiers": 2, "commands": ["copy"]}
    )
    until(lambda: copied() == "Annual Report\nnothing here")


def _clipboard(viewer: Viewer) -> Callable[[], str]:
    def read() -> str:
        return str(
            viewer.browser.execute_async_script(
                "const done = arguments[0]; navigator.clipboard.readText().then(done, e => done(String(e)))"
            )
        )

    return read


def test_everything_that_is_used_has_a_name_for_a_screen_reader(viewer: Viewer) -> None:
    until(lambda: bool(viewer.find("#sheet-1 .word")))
    tree = viewer.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    used = {
        "button",
        "textbox",
        "searchbox",
        "slider",
        "spinbutton",
        "link",
        "img",
        "image",
        "region",
        "main",
        "search",
    }
    nodes = [node for node in tree if not node["ignored"] and node.get("role", {}).get("value") in used]
    assert len(nodes) > 20
    assert [
        node["role"]["value"]
        for node in nodes
        if not node.get("name", {}).get("value") and node["role"]["value"] != "search"
    ] == []
    viewer.press(Keys.TAB)
    assert viewer.script("return document.activeElement.textContent") == "Skip to the pages"


HOSTILE = "<img src=x onerror='harmed=1'></script><script>window.harmed=1</script>"


def test_hostile_text_stays_text(chromium: Chrome, tmp_path: Path) -> None:
    box = {"vertices": [{"x": x, "y": y} for x, y in ((0.1, 0.1), (0.9, 0.1), (0.9, 0.12), (0.1, 0.12))]}
    words = [{"text": HOSTILE, "confidence": 0.1, "bounding_box": box}]
    result = tmp_path / "hostile.ocr.json"
    result.write_text(json.dumps({"pages": [{"text": HOSTILE, "words": words}]}))
    with (tmp_path / "hostile.html").open("w", encoding="utf-8") as out:
        write_viewer(result, out, Viewed(HOSTILE, HOSTILE, None, HOSTILE))
    viewer = Viewer(chromium, tmp_path / "hostile.html").open("#search=onerror")
    viewer.says("#found", "1 of 1")
    assert viewer.texts("#sheet-1 .text") == viewer.texts("#sheet-1 .word") == viewer.texts("#title") == [HOSTILE]
    assert viewer.browser.title == HOSTILE
    assert viewer.script("return window.harmed") is None
    assert viewer.script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    assert viewer.one("#notice").is_displayed(), "there is no picture, and that is told"
    colour = viewer.script("return getComputedStyle(document.querySelector('.word')).color")
    assert colour == "rgb(27, 31, 36)", "the words are drawn in place of the picture"


def test_no_code_but_its_own_runs(viewer: Viewer) -> None:
    viewer.script(
        "const code = document.createElement('script'); code.textContent = 'window.harmed = 1';"
        "document.body.append(code)"
    )
    assert viewer.script("return window.harmed") is None
    refused = viewer.browser.get_log("browser")
    assert "Content Security Policy" in refused[-1]["message"]
