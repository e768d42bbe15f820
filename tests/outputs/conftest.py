"""A browser for what is looked at in one."""

import shutil
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    """Headless Chromium with its driver, as Debian packages them (`chromium`, `chromium-driver`)."""
    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    assert program, "the viewer is tested in Chromium: apt-get install chromium"
    assert driver, "the viewer is tested with Chromium's driver: apt-get install chromium-driver"
    options = ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-extensions",
    ):
        options.add_argument(argument)
    options.add_argument("--window-size=1500,950")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(driver))
    try:
        browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
        yield browser
    finally:
        browser.quit()
