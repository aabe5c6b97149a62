"""The page in a browser, against a real server: what people see when all is well, and when it is not.

The screenshots go into ``build/screenshots``, or where HETSYN_SCREENSHOTS says.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
import soundfile
from selenium.webdriver.common.keys import Keys

from tests.support.clients.browser import NARROW, WIDE, Browser, browsing
from tests.support.paths import RECORDINGS
from tests.support.servers.server_process import RestartableServer
from tests.support.tools import NO_ESPEAK

pytestmark = pytest.mark.process

SPOKEN = ["three", "seven", "one", "six"]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PAUSE_S = 0.6


def sound(words: list[str]) -> tuple[np.ndarray, int]:
    """The recordings of words, with pauses around them, and their rate."""
    parts = []
    for word in words:
        with wave.open(str(RECORDINGS / f"{word}.wav")) as file:
            rate_hz = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        parts += [np.zeros(round(PAUSE_S * rate_hz), np.int16), samples]
    return np.concatenate([*parts, np.zeros(2 * rate_hz, np.int16)]), rate_hz


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    samples, rate_hz = sound(SPOKEN)
    soundfile.write(path, np.repeat(samples, 6), 6 * rate_hz)  # microphones have 48 kHz
    return path


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Browser]:
    """One for the tests that need nothing of their own."""
    with browsing(microphone=microphone) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Browser]:
    browser.appear()
    browser.open(f"{url}/")
    browser.complaints()  # of tests before
    yield browser
    browser.driver.get("about:blank")


def pixels(browser: Browser, index: int = 0) -> str:
    """What a canvas shows."""
    return str(browser.run("return [...document.querySelectorAll('.row canvas')].at(arguments[0]).toDataURL()", index))


def spikes(browser: Browser) -> list[int]:
    """How many spikes each layer of the raster has, as the page says to those who do not see it."""
    labels = browser.run("return [...document.querySelectorAll('#raster canvas')].map((e) => e.ariaLabel)")
    return [int(label.split(": ")[1].split()[0].replace("none", "0")) for label in labels]


def test_the_page_shows_the_words_that_the_microphone_hears(page: Browser) -> None:
    page.click("speak")
    page.until("the first word", lambda: page.words()[:1] == SPOKEN[:1])
    before = [pixels(page, index) for index in range(4)]
    page.until("all words", lambda: page.words() == SPOKEN)
    assert "48 kHz" in page.text("status") or "44.1 kHz" in page.text("status")
    assert len(spikes(page)) == 3  # input and two hidden layers
    assert min(spikes(page)) > 50
    assert all(pixels(page, index) != seen for index, seen in enumerate(before)), "the raster does not move"
    rows = page.run("return [...document.querySelectorAll('#parts tbody tr')].map((row) => row.innerText)")
    assert [row.split()[0] for row in rows] == ["Network", "Waiting", "Computing", "Storing", "Total"]
    milliseconds = [float(row.split()[1]) for row in rows]
    assert milliseconds[2] > 0
    assert milliseconds[-1] == pytest.approx(sum(milliseconds[:-1]), rel=0.5)
    page.screenshot("wide")
    page.click("speak")
    page.until("the end", lambda: not page.is_running())
    assert page.words() == SPOKEN
    assert page.complaints() == []


def test_the_recordings_are_understood(page: Browser) -> None:
    """The times of the words are where they were played."""
    page.element("recording").send_keys("seven")
    page.click("play")
    page.until("the word", lambda: page.words() == ["seven"])
    page.until("the end", lambda: not page.is_running())
    assert page.text("word") == "seven"
    begin_s, end_s = (
        float(part) for part in page.run("return document.querySelector('#words .number').textContent")[:-2].split("–")
    )
    assert 0.3 < begin_s < 0.7 < 1.1 < end_s < 1.8
    assert page.complaints() == []


@pytest.mark.parametrize(
    ("name", "size", "dark"), [("light", WIDE, False), ("dark", WIDE, True), ("narrow", NARROW, False)]
)
def test_everybody_can_use_it(page: Browser, name: str, size: tuple[int, int], dark: bool) -> None:
    """As far as axe-core can tell: at rest, while it runs, and when something is wrong."""
    page.appear(size, dark=dark)
    assert page.violations() == []
    page.click("play")
    page.until("two words", lambda: page.words() == DIGITS[:2])
    page.screenshot(name)
    assert page.violations() == []
    width = page.run("return document.documentElement.scrollWidth")
    assert width <= size[0], "the page is wider than the screen"
    page.element("file").send_keys(str(RECORDINGS / "README.md"))
    page.until("the refusal", lambda: "README.md is no sound" in page.text("alert"))
    assert page.violations() == []


def test_files_of_other_formats_are_understood(page: Browser, tmp_path: Path) -> None:
    samples, rate_hz = sound(["nine"])
    path = tmp_path / "nine.flac"
    soundfile.write(path, np.stack([samples, samples], axis=1), rate_hz)
    page.element("file").send_keys(str(path))
    page.until("the word", lambda: page.words() == ["nine"])
    page.until("the end", lambda: not page.is_running())
    assert page.complaints() == []


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason=NO_ESPEAK)
def test_a_word_that_is_no_digit_is_no_word(page: Browser, tmp_path: Path) -> None:
    path = tmp_path / "spoken.wav"
    parts = []
    for word in ("hello", "seven"):
        subprocess.run(["espeak-ng", "-v", "en-us", "-w", str(path), word], check=True)
        samples, rate_hz = soundfile.read(path, dtype="int16")
        parts += [np.zeros(round(PAUSE_S * rate_hz), np.int16), samples]
    soundfile.write(path, np.concatenate([*parts, parts[0]]), rate_hz)
    page.element("file").send_keys(str(path))
    page.until("both answers", lambda: page.words() == ["no word", "seven"])
    page.screenshot("no-word")
    assert page.complaints() == []


SIZES = pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])


def below_now(browser: Browser) -> list[float]:
    """How far the headings of words and spikes are below that of what is heard now."""
    script = "return arguments[0].map((id) => document.getElementById(id).getBoundingClientRect().top)"
    now, *others = browser.run(script, ["now-title", "words-title", "spikes-title"])
    return [top - now for top in others]


@SIZES
def test_an_idle_page_says_what_to_say_and_what_spikes_are(page: Browser, url: str, size: tuple[int, int]) -> None:
    """And nothing moves when the first words come: they stand under what is heard now."""
    page.appear(size)
    page.open(f"{url}/")
    assert page.text("word") == "Say “three”"
    assert page.element("word").is_displayed()
    assert "Each dot is a spike" in page.text("about-spikes")
    before = words, spikes = below_now(page)
    assert 0 < words < 150
    assert size == WIDE or words < spikes
    page.screenshot(f"idle-{size[0]}")
    page.click("play")
    page.until("three words", lambda: page.words() == DIGITS[:3])
    assert below_now(page) == pytest.approx(before, abs=0.5)
    assert page.text("words-title") == "Words"
    page.element("model").send_keys("speech-commands")
    page.until("its own invitation", lambda: page.text("word").startswith("Say “"))
    assert page.text("word") in [f"Say “{word}”" for word in page.text("about").split("It knows: ")[1].split(", ")]


@SIZES
def test_a_long_label_is_whole_and_exercises_are_no_words(page: Browser, url: str, size: tuple[int, int]) -> None:
    page.appear(size)
    page.open(f"{url}/?model=motion")
    labels = page.run("return [...document.querySelectorAll('#answer li')].map((e) => e.textContent)")
    assert "forward elevation" in labels
    cut = """const end = (e) => { const r = document.createRange(); r.selectNodeContents(e);
        return r.getBoundingClientRect().right; };
        return [...document.querySelectorAll("#answer li")]
          .filter((e) => end(e) > e.getBoundingClientRect().right).map((e) => e.textContent)"""
    assert page.run(cut) == []
    lefts = "return [...document.querySelectorAll('.row canvas')].map((e) => e.getBoundingClientRect().left)"
    assert len(set(page.run(lefts))) == 1, "the pictures have one axis of time"
    assert page.run("return document.documentElement.scrollWidth") <= size[0]
    assert page.text("words-title") == "Answers"
    page.screenshot(f"motion-{size[0]}")
    assert page.violations() == []


def test_a_dropped_file_is_played(page: Browser) -> None:
    content = list((RECORDINGS / "four.wav").read_bytes())
    page.run(
        """const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(arguments[0])], "four.wav"));
        document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: data }));""",
        content,
    )
    page.until("the word", lambda: page.words() == ["four"])


@pytest.mark.parametrize(("model", "word"), [("shd-words", "zwei"), ("fashion-rows", None)])
def test_networks_that_take_no_sound_have_examples(page: Browser, url: str, model: str, word: str | None) -> None:
    page.open(f"{url}/?model={model}")
    assert page.text("speak") == "Play example"
    assert not page.element("play").is_displayed()
    page.click("speak")
    page.until("a word", lambda: len(page.words()) == 1)
    assert word is None or page.words() == [word]
    assert spikes(page)[0] > 0
    assert page.complaints() == []


def test_an_address_with_an_unknown_model_says_so(page: Browser, url: str) -> None:
    page.open(f"{url}/?model=word")
    page.until("it says so", lambda: page.text("alert") != "")
    assert page.text("alert") == "There is no model “word” on this server: choose another one."
    assert page.attribute("model", "value") == "speech-digits"


def test_a_network_that_draws_shows_its_trace(page: Browser) -> None:
    page.element("model").send_keys("pattern-generation")
    page.until("the model", lambda: page.text("speak") == "Play example")
    blank = pixels(page)
    page.click("speak")
    page.until("the end", lambda: page.is_running())
    page.until("the end", lambda: not page.is_running())
    assert page.text("answer-title") == "Trace"
    assert pixels(page, -1) != blank  # below the layers
    page.screenshot("trace")
    assert not page.element("words").is_displayed()
    assert page.complaints() == []


def test_it_works_by_keyboard(page: Browser) -> None:
    focused = page.driver.switch_to.active_element
    for _ in range(4):  # model, Speak, recording, Play
        focused.send_keys(Keys.TAB)
        focused = page.driver.switch_to.active_element
    assert focused.get_attribute("id") == "play"
    focused.send_keys(Keys.ENTER)
    page.until("the recording", page.is_running)
    page.element("speak").send_keys(Keys.ESCAPE)
    page.until("the end", lambda: not page.is_running())


def test_nothing_scrolls_where_motion_is_reduced(page: Browser) -> None:
    """What was drawn stays where it is: what comes later is drawn beside it."""
    page.appear(still=True)
    page.click("play")
    drawn = """const canvas = document.querySelector("#raster canvas");
        const columns = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width / 4, canvas.height)
          .data.buffer);
        return Array.from(columns, (pixel) => (pixel ? 1 : 0)).join("")"""
    page.until("a word and a half", lambda: len(page.words()) == 2)
    before = page.run(drawn)
    page.until("more words", lambda: len(page.words()) == 3)
    assert "1" in before
    assert page.run(drawn) == before


def test_a_refused_microphone_is_said(url: str) -> None:
    with browsing(is_refused=True) as browser:
        browser.open(f"{url}/")
        browser.click("speak")
        browser.until("the sentence", lambda: "The browser refused the microphone" in browser.text("alert"))
        browser.screenshot("refused")
        assert not browser.is_running()
        assert browser.violations() == []
        browser.click("play")  # as the sentence says
        browser.until("a word", lambda: browser.words() == ["zero"])


def test_a_page_of_another_host_without_tls_has_no_microphone_and_says_so(url: str) -> None:
    port = url.rstrip("/").rpartition(":")[2]
    with browsing("--host-resolver-rules=MAP page.example 127.0.0.1") as browser:
        browser.open(f"http://page.example:{port}/")
        assert "HTTPS" in browser.text("status")
        browser.screenshot("insecure")
        browser.click("speak")
        browser.until("the sentence", lambda: "HTTPS" in browser.text("alert"))
        browser.click("play")
        browser.until("a word", lambda: browser.words() == ["zero"])


# a WebSocket whose first connection breaks when it has read the end of the session, of which the page learns nothing
DEAF = """
window.WebSocket = class extends WebSocket {
  set onmessage(act) {
    super.onmessage = (event) => {
      if (window.isOver || !this.isEnding) act(event);
      else if (JSON.parse(event.data).type === "Termination") { window.isOver = true; this.close(); }
    };
  }
  set onclose(act) {
    super.onclose = (event) => act(event.code === 1000 && this.isEnding ? { code: 1006 } : event);
  }
  send(content) {
    this.isEnding = content === '{"type":"CloseStream"}';
    super.send(content);
  }
};
"""


def test_an_answer_that_is_lost_at_the_end_is_asked_for(url: str) -> None:
    with browsing() as browser:
        browser.before_pages(DEAF)
        browser.open(f"{url}/?model=shd-words")
        browser.click("speak")
        browser.until("the word", lambda: browser.words() == ["zwei"])
        browser.until("the end", lambda: not browser.is_running())
        assert browser.run("return window.isOver")
        assert browser.text("alert") == ""
        assert all("409" in message for message in browser.complaints())  # the page has asked why


def infer(url: str, session: str, seq: int) -> None:
    body = {"session": session, "seq": seq, "input": {"kind": "events", "steps": 1, "times": [], "units": []}}
    request = Request(f"{url}/infer", json.dumps(body).encode(), {"Content-Type": "application/json"})
    assert urlopen(request).status == 200


def test_a_full_server_is_said_until_it_has_room() -> None:
    server = RestartableServer("--max-sessions", "1", "--client-share", "1")
    try:
        server.ready()
        for seq in (0, 1):  # a session of one chunk would make room
            infer(server.url, "other", seq)
        with browsing() as browser:
            browser.open(f"{server.url}/")
            browser.element("recording").send_keys("seven")
            browser.click("play")
            browser.until("the sentence", lambda: "The server is full" in browser.text("alert"))
            browser.until("the countdown", lambda: "Next attempt in" in browser.text("countdown"))
            browser.screenshot("overloaded")
            urlopen(Request(f"{server.url}/sessions/other", method="DELETE"))
            browser.run("dispatchEvent(new Event('online'))")  # then it tries at once
            browser.until("the word", lambda: browser.words() == ["seven"])
            assert browser.text("alert") == ""
    finally:
        server.stop()


@pytest.mark.parametrize("has_store", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_killed_server_is_said_and_the_session_goes_on(tmp_path: Path, has_store: bool) -> None:
    server = RestartableServer(*(("--store", f"file://{tmp_path}/sessions.db") if has_store else ()))
    try:
        server.ready()
        with browsing() as browser:
            browser.open(f"{server.url}/")
            browser.click("play")
            heard = 2 if has_store else 0
            browser.until("words", lambda: len(browser.words()) == heard and sum(spikes(browser)) > 0)
            server.kill()
            browser.until("the sentence", lambda: "cannot be reached" in browser.text("alert"))
            assert "the input waits here" in browser.text("status")
            browser.until("input waits", lambda: "with 0.0 s" not in browser.text("countdown"))
            if has_store:
                browser.screenshot("gone")
            server.restart()
            said = "nothing was lost" if has_store else "The server kept no sessions"
            browser.until("the session goes on", lambda: said in browser.text("status"))
            if not has_store:
                browser.until("spikes of the new session", lambda: sum(spikes(browser)) > 0)
                return
            browser.until("two more words", lambda: len(browser.words()) >= 4)
            browser.screenshot("resumed")
            browser.until("the end", lambda: not browser.is_running())
            assert browser.words() == DIGITS
    finally:
        server.stop()
