"""The application in a real browser: run, change, compare, reload, a second visitor; and nothing fetched from elsewhere.

Screenshots are kept in `runs/app-screenshots`, or where ABM_SCREENSHOTS says.
"""

import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

PLACE = Path(os.environ.get("ABM_SCREENSHOTS", "runs/app-screenshots"))
PATIENCE = 90_000  # milliseconds; a busy machine takes its time
playwright.expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a server with room for three runs, which ends when it is told to."""
    said = tmp_path_factory.mktemp("server") / "said.txt"
    command = [sys.executable, "-m", "experiments.cli", "app", "--port", "0", "--no-show", "--runs", "3"]
    with said.open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        end = time.monotonic() + PATIENCE / 1000
        while not (found := re.match(r"(http://localhost:\d+/) \(Ctrl-C ends it\)\n", said.read_text())):
            assert process.poll() is None and time.monotonic() < end, said.read_text()
            time.sleep(0.1)
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Visitor:
    """One visitor with a browser of his own: his page, what it asked for, and what went wrong in it."""

    def __init__(self, chromium, server, asked="", width=1280, height=720):
        self.page = chromium.new_context(viewport={"width": width, "height": height}).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.requests, self.errors = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.received = []  # what the server has sent to the page
        self.page.on("websocket", self._listen)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open(server + asked)

    def _listen(self, socket):
        self.requests.append(socket.url)
        socket.on("framereceived", lambda frame: self.received.append(frame))

    def open(self, url):
        self.page.goto(url)
        self.button("Run").wait_for()

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def status(self, run="a"):
        return self.page.locator(f"#run-{run} .bk-clearfix").first.inner_text()

    def wait(self, pattern, run="a"):
        """Wait until the line of a run says something."""
        place = self.page.locator(f"#run-{run} .bk-clearfix").first
        playwright.expect(place).to_contain_text(re.compile(pattern))
        return self.status(run)

    def price(self, run="a"):
        return re.search(r"([\d,]+\.\d\d) USD", self.status(run))[1]

    def type(self, label, run, text):
        """Type a value into the box beside a slider."""
        row = self.page.locator("aside").get_by_role("textbox", name=f"{label}, run {run}")
        row.fill(text)
        row.press("Enter")

    def shot(self, name):
        PLACE.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PLACE / f"{name}.png")

    def whole(self, name):
        """The whole page: what is out of sight is not drawn, so that the window is made as long."""
        size = self.page.viewport_size
        height = self.page.evaluate("document.documentElement.scrollHeight")
        self.page.set_viewport_size({"width": size["width"], "height": height})
        self.page.wait_for_timeout(2000)
        self.shot(name)
        self.page.set_viewport_size(size)

    def leave(self):
        self.page.context.close()


def test_a_visitor_runs_changes_and_compares(chromium, server):
    visitor = Visitor(chromium, server, "?scenario=first-hour&seed=3")
    visitor.shot("before")
    visitor.button("Step").click()
    visitor.wait("00:01 UTC.*paused")
    visitor.button("Run").click()
    alone = visitor.wait("over; every coin and cent accounted for")
    assert visitor.page.evaluate("window.pictures") > 3
    before = visitor.price()

    visitor.button("Compare two runs").click()
    playwright.expect(visitor.page.locator("#run-b")).to_be_visible()
    visitor.type("Depth of the books", "B", "7")
    playwright.expect(visitor.page.get_by_role("alert")).to_contain_text("write a number from 0.1 to 4")
    visitor.shot("wrong-value")
    slider = visitor.page.locator("aside .noUi-handle").nth(1)  # depth of run B
    slider.focus()
    visitor.received.clear()
    there, back = ["ArrowLeft"] * 8, ["ArrowRight"] * 8
    for key in there + (back + there) * 4:
        slider.press(key)
    visitor.wait("Not begun", "b")
    visitor.page.wait_for_url(re.compile("b=depth:0.2"))  # the address keeps what is set
    sent_back = [each for each in visitor.received if re.search(r'"attr":"value(_throttled)?","new":\d', str(each))]
    assert not sent_back, "what is set on a slider is not sent back to it, where it would undo the next key"
    visitor.button("Restart").click()
    changed = visitor.wait(r"over; every coin.*Changed: Depth of the books: 0\.2", "b")
    same = visitor.wait("over; every coin.*As in the scenario")
    assert visitor.price() == before, "the same seed gives the same run"
    assert visitor.price("b") != before, "a thinner book gives another"
    visitor.whole("compared")
    assert "UTC" in alone and "UTC" in changed and "UTC" in same

    # A reload keeps what is set, and the run begins anew
    assert "b=depth:0.2" in visitor.page.url and "compare=1" in visitor.page.url
    visitor.page.reload()
    visitor.button("Run").wait_for()
    visitor.wait("Not begun")
    visitor.button("Run").click()
    visitor.wait(r"over; every coin.*0\.2", "b")
    visitor.wait("over; every coin.*As in the scenario")
    assert visitor.price() == before

    elsewhere = {url for url in visitor.requests if urlsplit(url).hostname not in ("localhost", None)}
    assert not elsewhere and visitor.requests and not visitor.errors
    visitor.leave()


def test_a_second_visitor_has_a_state_of_his_own_and_runs_are_bounded(chromium, server):
    first, second = (Visitor(chromium, server, "?scenario=spot") for _ in range(2))
    first.button("Run").click()
    first.wait("hours of market a second")
    first.button("Pause").click()  # so that it does not end before others ask
    assert "Not begun" in second.status()
    second.page.keyboard.press("c")  # by keyboard: compare, run
    playwright.expect(second.page.locator("#run-b")).to_be_visible()
    second.page.keyboard.press("r")
    second.wait("hours of market a second", "b")
    second.button("Pause").click()
    third = Visitor(chromium, server, "?scenario=first-hour")
    third.button("Run").click()
    playwright.expect(third.page.get_by_role("alert")).to_contain_text("3 runs are going on here")
    second.leave()  # his runs end when he has gone
    third.page.wait_for_timeout(1000)
    for _ in range(40):
        third.button("Run").click()
        third.page.wait_for_timeout(500)
        if "Not begun" not in third.status():
            break
    third.wait("UTC")
    assert not first.errors + third.errors
    first.leave()
    third.leave()


def test_only_pages_of_its_own_address_are_answered(server):
    """A page of somebody else's, open in the same browser, gets no socket; and nobody gets one from another machine."""
    where = urlsplit(server)
    for origin, status in ((server.rstrip("/"), "101"), ("http://elsewhere.example", "403")):
        with socket.create_connection(("127.0.0.1", where.port), timeout=60) as line:
            key = base64.b64encode(bytes(16)).decode()
            head = f"GET /ws HTTP/1.1\r\nHost: {where.netloc}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            line.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
            answer = line.recv(100).decode().split()[1]
        assert answer == status
    outside = socket.gethostbyname(socket.gethostname())
    if not outside.startswith("127."):
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            socket.create_connection((outside, where.port), timeout=5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("?scenario=../../etc/passwd", "There is no scenario '../../etc/passwd'"),
        ("?scenario=first-hour&seed=-1", "Seed: write a whole number from 0 on"),
        ("?scenario=first-hour&a=depth:9", "Depth of the books: write a number from 0.1 to 4"),
    ],
)
def test_an_address_that_asks_for_what_is_not_there(chromium, server, asked, said):
    visitor = Visitor(chromium, server, asked)
    playwright.expect(visitor.page.get_by_role("alert").first).to_contain_text(said)
    visitor.leave()
