"""A page in headless Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.paths import ROOT
from tests.support.tools import AXE, CHROMEDRIVER, CHROMIUM, NO_AXE, NO_CHROMIUM

WAIT_S = 60.0
SCREENSHOTS = Path(os.environ.get("HETSYN_SCREENSHOTS", ROOT / "build" / "screenshots"))
WIDE, NARROW = (1280, 1000), (390, 1500)
_MEDIA = "Emulation.setEmulatedMedia"
_SIZE = "Emulation.setDeviceMetricsOverride"


class Browser:
    """A window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Open the page, and wait until it has a model."""
        self.driver.get(url)
        self.until("the page has a model", lambda: bool(self.text("model")) and self.attribute("answer", "innerHTML"))

    def element(self, name: str) -> Any:
        """The element of an id."""
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return str(self.element(name).text)

    def attribute(self, name: str, attribute: str) -> str:
        return str(self.element(name).get_attribute(attribute))

    def click(self, name: str) -> None:
        self.element(name).click()

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's body."""
        return self.driver.execute_script(script, *arguments)

    def before_pages(self, script: str) -> None:
        """Run a script at the beginning of each page from now on."""
        self._tell("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def until(self, what: str, condition: Any, timeout_s: float = WAIT_S) -> None:
        """Wait for a condition."""
        try:
            WebDriverWait(self.driver, timeout_s, 0.05).until(lambda _: condition())
        except TimeoutException:
            said = {name: self.text(name) for name in ("status", "alert", "words", "about")}
            pytest.fail(f"not in time: {what}; the page says {said} and logs {self.complaints()}")

    def words(self) -> list[str]:
        """The recognised words, oldest first."""
        found = self.run("return [...document.querySelectorAll('#words strong')].map((e) => e.textContent)")
        return list(reversed(found))

    def is_running(self) -> bool:
        return self.text("speak") == "Stop"

    def appear(self, size: tuple[int, int] = WIDE, *, dark: bool = False, still: bool = False) -> None:
        """Change the size, the colours and the preference for motion, as a system would."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == NARROW}
        self._tell(_SIZE, metrics)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self._tell(_MEDIA, {"features": features})

    def screenshot(self, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        assert self.driver.save_screenshot(str(path))
        return path

    def violations(self) -> list[str]:
        """What axe-core finds wrong, a line each."""
        if not AXE.is_file():
            pytest.skip(NO_AXE)
        self.run(AXE.read_text())
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then((r) => done(r.violations), (e) => done([{id: String(e)}]))"
        )
        return [
            f"{each['id']}: {[(node['html'], node['failureSummary']) for node in each.get('nodes', ())]}"
            for each in found
        ]

    def complaints(self) -> list[str]:
        """What the browser's console has of errors, such as violations of the content security policy."""
        logged = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]

    def _tell(self, command: str, parameters: dict[str, Any]) -> None:
        self.driver.execute_cdp_cmd(command, parameters)


@contextmanager
def browsing(*options: str, microphone: Path | None = None, is_refused: bool = False) -> Iterator[Browser]:
    """A window of a new browser.

    Args:
        options: further ones of Chromium.
        microphone: WAV file that it hears once; None is a beep.
        is_refused: whether the browser refuses the microphone.
    """
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip(NO_CHROMIUM)
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = CHROMIUM
    for option in (
        "--headless=new",
        "--no-sandbox",  # CI runs as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--use-fake-device-for-media-stream",
        *options,
    ):
        chosen.add_argument(option)
    if microphone is not None:
        chosen.add_argument(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    allowed = 2 if is_refused else 1
    chosen.add_experimental_option("prefs", {"profile.default_content_setting_values.media_stream_mic": allowed})
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=chosen, service=Service(CHROMEDRIVER))
    try:
        browser = Browser(driver)
        browser.appear()
        yield browser
    finally:
        driver.quit()
