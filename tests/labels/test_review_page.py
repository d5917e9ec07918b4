"""The review's page as an inspector uses it, in a real browser."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from reviews import write_table
from toys import write_set

from rb.labels.journal import read_journals
from rb.labels.review import Choice, Review
from rb.labels.server import ReviewServer


@pytest.fixture
def server(tmp_path) -> Iterator[ReviewServer]:
    """Eight toy suspects, or with RB_REVIEW_SUSPECTS those of a table of one's own."""
    given = os.environ.get("RB_REVIEW_SUSPECTS")
    table = Path(given) if given else tmp_path / "suspects.parquet"
    if not given:
        write_table(write_set(tmp_path / "set"), table)
    with ReviewServer(Review(table, tmp_path / "review", choice=Choice(top=8)), port=0) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)


@pytest.mark.slow
def test_an_inspection_from_the_first_key_to_the_second_inspector(browser, server, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(browser, 120, 0.1)
    ids = server.review.start()["ids"]

    def text(name: str) -> str:
        return browser.find_element(By.ID, name).text

    def press(*keys: str) -> None:
        for key in keys:
            browser.find_element(By.TAG_NAME, "body").send_keys(key)

    def at(number: int) -> None:
        wait.until(
            lambda _: text("id") == ids[number] and text("place").startswith(str(number + 1))
        )

    def begin(name: str) -> None:
        wait.until(lambda _: browser.find_element(By.ID, "ask").is_displayed())
        browser.find_element(By.ID, "name").send_keys(name, Keys.ENTER)

    def said(name: str) -> dict[str, str]:
        table = read_journals(tmp_path / "review")[name]
        return dict(zip(table["id"], table["verdict"], strict=True))

    def judged(number: int) -> None:
        wait.until(lambda _: text("count").startswith(f"{number} of {len(ids)} judged"))
        wait.until(lambda _: "not saved" not in text("count"))

    browser.set_window_size(1360, 900)
    browser.get(server.url)
    begin("Ada <img src=x onerror=alert(1)>")
    at(0)
    assert text("who") == "Ada <img src=x onerror=alert(1)>"
    name = text("who")
    assert len(browser.find_elements(By.TAG_NAME, "canvas")) == 3
    # The middle of the canvas is drawn, in more than one colour.
    colours = browser.execute_script(
        "return [...document.querySelectorAll('canvas')].map(c => new Set(new Uint32Array("
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size)"
    )
    assert min(colours) > 20
    # What could bias is not there before it is asked for.
    assert "p_real" not in browser.find_element(By.TAG_NAME, "dl").text
    assert not browser.find_element(By.ID, "hidden").is_displayed()

    press("r")
    at(1)
    press("b")
    at(2)
    press("u")
    at(3)
    judged(3)
    assert said(name) == dict(zip(ids, ["real", "bogus", "unsure"], strict=False))
    press(Keys.BACKSPACE)
    at(2)
    press(Keys.ARROW_LEFT)
    at(1)
    assert text("said") == "bogus"
    press("r")  # thought better of it
    at(3)
    judged(3)
    assert said(name)[ids[1]] == "real"

    browser.refresh()
    at(3)
    judged(3)
    browser.find_element(By.CSS_SELECTOR, ".say.bogus").click()
    at(4)
    judged(4)

    # The tunnel breaks and comes back: nothing that was said meanwhile is lost.
    line = {"latency": 0, "download_throughput": -1, "upload_throughput": -1}
    browser.set_network_conditions(offline=True, **line)
    press("u")
    wait.until(lambda _: "does not answer" in text("trouble"))
    assert "1 not saved yet" in text("count")
    assert ids[4] not in said(name)
    browser.set_network_conditions(offline=False, **line)
    judged(5)
    wait.until(lambda _: not browser.find_element(By.ID, "trouble").is_displayed())
    assert said(name)[ids[4]] == "unsure"

    at(5)
    press("z", "+", "c", "p")
    wait.until(lambda _: browser.find_element(By.ID, "hidden").is_displayed())
    assert "label " in text("hidden") and "p_real 0." in text("hidden")
    picture = Path(os.environ.get("RB_SCREENSHOT", tmp_path / "review.png"))
    press("0", "c")
    assert browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 20_000
    press("b")
    at(6)
    judged(6)
    table = read_journals(tmp_path / "review")[name].set_index("id")
    assert table.loc[ids[5], "shown"] == 1
    assert table.loc[ids[4], "shown"] == 0
    press("p")

    # A filter, a jump, and keys that are typed into a field and are no verdicts.
    browser.find_element(By.ID, "find").send_keys(ids[0], Keys.ENTER)
    at(0)
    browser.find_element(By.ID, "find").send_keys("rbu", Keys.ESCAPE)
    browser.find_element(By.ID, "find").clear()
    judged(6)
    browser.execute_script(
        "const f = document.getElementById('filter'); f.value = 'unsure';"
        "f.dispatchEvent(new Event('change'))"
    )
    at(2)
    press(Keys.ARROW_RIGHT)
    at(4)

    # Another inspector begins anew, and the first one's verdicts stay.
    browser.find_element(By.ID, "other").click()
    begin("Bo")
    at(0)
    judged(0)
    browser.execute_script("document.getElementById('filter').value = 'all'")
    for number in range(len(ids)):
        at(number)
        press("b")
    judged(len(ids))
    wait.until(lambda _: browser.find_element(By.ID, "done").is_displayed())
    assert len(said("Bo")) == len(ids)
    assert len(said(name)) == 6
    time.sleep(0.2)
    complaints = [e for e in browser.get_log("browser") if "favicon" not in e["message"]]
    # The broken tunnel is the only thing that the browser may complain of.
    assert all("ERR_INTERNET_DISCONNECTED" in e["message"] for e in complaints), complaints


@pytest.mark.slow
def test_another_page_in_the_same_browser_learns_nothing(browser, server, tmp_path):
    """A script of some other site tries to read and to write."""
    address = f"http://127.0.0.1:{server.port}"
    (tmp_path / "evil.html").write_text("<p>evil</p>")
    browser.get((tmp_path / "evil.html").as_uri())
    for options in (
        "{}",
        '{mode: \'no-cors\', method: \'POST\', body: \'{"inspector": "Eve", "number": 0, '
        '"verdict": "real"}\'}',
        "{headers: {'X-Review-Token': 'guess'}}",
    ):
        outcome = browser.execute_async_script(
            f"const done = arguments[0]; fetch('{address}/api/verdict', {options})"
            ".then(a => a.text()).then(t => done('read ' + t)).catch(() => done('refused'))"
        )
        assert outcome in ("refused", "read ")
    assert list((tmp_path / "review").glob("verdicts-*")) == []
    browser.get(f"{address}/?token=wrong")
    assert "lacks the right token" in browser.page_source
