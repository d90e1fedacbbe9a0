"""The search page in a real browser: typing, dropping, filters, reasons, keyboard and errors."""

import time
from contextlib import contextmanager

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")

#: The red tiles of the gallery.
REDS = ("red.png", "sub dir/red again.png", "file/file.png", "grün %2F ü&?#.jpg", "a..b...png")

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def page(request, start, index_of_tiles):
    """Return the address of a running service over an index with columns."""
    with start(gallery=index_of_tiles) as service:
        yield f"http://127.0.0.1:{service.port}/"


@pytest.fixture(scope="module")
def index_of_tiles(model, photos, tmp_path_factory):
    import crossfit
    from crossfit.galleries import read_gallery

    pytest.importorskip("faiss", reason="faiss is of the extra ann")
    pytest.importorskip("pyarrow", reason="pyarrow is of the extra tables")
    from crossfit.retrieval import Index

    gallery = read_gallery(photos)
    vectors = crossfit.encode(model, gallery.items, "image")
    folder = tmp_path_factory.mktemp("indexed") / "tiles.index"
    with Index.create(folder, dim=vectors.shape[1], meta={"view": "image"}) as made:
        kinds = ["grey" if name.split(".")[0] in ("grey", "black", "white") else "colour"
                 for name in gallery.ids]  # fmt: skip
        payload = {"path": gallery.items, "kind": kinds, "year": list(range(len(kinds)))}
        made.add(vectors, gallery.ids, payload)
    return folder


def wait(condition, seconds=30.0):
    """Return the first true value of a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail(f"nothing within {seconds} s")


def opened(browser, address, width="desktop", scheme="light"):
    wide, high = WIDTHS[width]
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": width == "phone"},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get_log("browser")
    browser.get(address)
    wait(lambda: browser.execute_script("return document.body.classList.contains('ready')"))
    return browser


def of(browser, name):
    return browser.find_element("id", name)


def status(browser):
    return of(browser, "status").text


def ids(browser):
    """Return the names that the results show, in order."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#results .open .words')].map((n) => n.textContent)"
    )


def typed(browser, words):
    box = of(browser, "text")
    box.clear()
    box.send_keys(words)
    # The title is that of the query that was sent last.
    wait(lambda: browser.title.startswith(words) and not busy(browser))
    wait(lambda: "best first" in status(browser))


def busy(browser):
    return browser.execute_script("return document.body.classList.contains('busy')")


def answers(browser):
    wait(lambda: not busy(browser))
    return ids(browser)


def silent(browser):
    """Check that nothing was reported in the console."""
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_typing_finds_and_the_address_keeps_the_query(browser, page):
    opened(browser, page)
    assert "Some items of the gallery" in status(browser) and len(ids(browser)) > 5
    typed(browser, "a red tile")
    first = ids(browser)
    assert first[0] in REDS
    assert "q=a+red+tile" in browser.current_url
    of(browser, "text").send_keys("\n")  # what is typed next is another entry of the history
    typed(browser, "a blue tile")
    assert "blue" in ids(browser)[0]
    browser.back()
    wait(lambda: of(browser, "text").get_attribute("value") == "a red tile")
    wait(lambda: ids(browser) == first)
    opened(browser, f"{page}?q=a+green+tile")
    wait(lambda: "green" in ids(browser)[0])
    assert of(browser, "text").get_attribute("value") == "a green tile"
    silent(browser)


def test_a_file_is_dropped_and_removed_again(browser, page, tmp_path):
    from crossfit.serving.limits import Limits

    opened(browser, page)
    Image.new("RGB", (32, 32), (40, 60, 220)).save(tmp_path / "query.png")
    of(browser, "file").send_keys(str(tmp_path / "query.png"))
    wait(lambda: "best first" in status(browser))
    assert ids(browser)[0] == "blue.png"
    assert "query.png" in of(browser, "given").text
    of(browser, "drop-query").click()
    wait(lambda: "Some items" in status(browser))
    # The same by a drop, as far as a script can make one.
    browser.execute_async_script(
        """const done = arguments[arguments.length - 1];
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 32;
        const pen = canvas.getContext("2d");
        pen.fillStyle = "rgb(220 30 30)"; pen.fillRect(0, 0, 32, 32);
        canvas.toBlob((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], "dropped.png", {type: "image/png"}));
          for (const kind of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true}));
          done();
        });"""
    )
    wait(lambda: "dropped.png" in of(browser, "given").text)
    assert wait(lambda: "best first" in status(browser) and answers(browser))[0] in REDS
    (tmp_path / "text.png").write_text("no picture")
    of(browser, "file").send_keys(str(tmp_path / "text.png"))
    error = wait(lambda: of(browser, "error").text)
    assert error.startswith("This file is of a type that cannot be searched with")
    big = tmp_path / "big.png"
    big.write_bytes(bytes(Limits().body_bytes + 10_000))
    of(browser, "file").send_keys(str(big))
    wait(lambda: of(browser, "error").text.startswith("This file is too large"))
    typed(browser, "red")
    assert not of(browser, "error").is_displayed()


def test_filters_by_columns_and_by_expression(browser, page):
    opened(browser, page)
    typed(browser, "a red tile")
    everything = ids(browser)
    of(browser, "toggle").click()
    choice = browser.find_element("css selector", "#columns select[aria-label=kind]")
    choice.find_element("xpath", "option[starts-with(., 'grey')]").click()
    wait(lambda: "where=" in browser.current_url and not busy(browser))
    grey = answers(browser)
    assert sorted(grey) == ["black.png", "grey.png", "white.png"]
    assert of(browser, "where").get_attribute("value") == "kind == 'grey'"
    of(browser, "where").clear()
    of(browser, "where").send_keys("year < 3 and kind == 'colour'\n")
    wait(lambda: "year" in of(browser, "toggle").text)
    assert 0 < len(answers(browser)) <= 3
    of(browser, "where").clear()
    of(browser, "where").send_keys("nothing == 3\n")
    assert "nothing" in wait(lambda: of(browser, "error").text)
    of(browser, "where").clear()
    of(browser, "where").send_keys("year > 1000\n")
    wait(lambda: "Nothing in the gallery passes the filter" in status(browser))
    of(browser, "clear").click()
    wait(lambda: ids(browser) == everything)
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert all("422" in message for message in messages)  # of the wrong expression


def test_an_item_opens_with_reasons_and_leads_to_similar_ones(browser, page):
    opened(browser, page)
    typed(browser, "a red tile")
    first, second = ids(browser)[:2]
    browser.find_element("css selector", "#results .open").click()
    wait(lambda: of(browser, "item").is_displayed())
    assert first in of(browser, "item-name").text
    assert "kind" in of(browser, "payload").text
    score = float(of(browser, "score").text.rpartition(" ")[2])
    of(browser, "why").click()
    box = wait(lambda: "is a sum over" in of(browser, "because").text and of(browser, "because"))
    assert f"The score {score:.3f} is a sum over 8 shared directions" in box.text
    parts = [float(part.text.replace("−", "-")) for part in box.find_elements("css selector", "b")]
    assert len(parts) == 5 and parts == sorted(parts, reverse=True)
    others = box.find_element("css selector", ".sum").text.replace("−", "-").split()
    assert sum(parts) + float(others[-1]) == pytest.approx(score, abs=5e-3)
    ends = box.find_elements("css selector", ".end p")
    assert [end.text.split()[0] for end in ends] == ["towards", "away"] * 5
    assert len(box.find_elements("css selector", ".end.towards img")) == 25
    words = [mark.text for mark in box.find_elements("css selector", "mark")]
    assert words == ["a", "red", "tile"]
    of(browser, "next").click()
    wait(lambda: second in of(browser, "item-name").text)
    assert not of(browser, "because").is_displayed()
    of(browser, "similar").click()
    wait(lambda: "like=" in browser.current_url and not busy(browser))
    wait(lambda: ids(browser) and not of(browser, "item").is_displayed())
    assert f"like {second}" in of(browser, "given").text
    silent(browser)


def test_the_keyboard_is_enough(browser, page):
    from selenium.webdriver.common.keys import Keys

    opened(browser, page)
    body = browser.find_element("tag name", "body")
    body.send_keys("/")
    assert browser.switch_to.active_element == of(browser, "text")
    browser.switch_to.active_element.send_keys("a red tile")
    wait(lambda: "best first" in status(browser) and not busy(browser))
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    focused = browser.switch_to.active_element
    assert focused.get_attribute("aria-label").startswith(ids(browser)[0])
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    focused.send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("aria-label").endswith("result 2")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait(lambda: of(browser, "item").is_displayed())
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait(lambda: not of(browser, "item").is_displayed())
    assert browser.switch_to.active_element.get_attribute("aria-label").endswith("result 2")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert browser.switch_to.active_element == of(browser, "text")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait(lambda: "Some items" in status(browser))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_every_text_can_be_read(browser, contrasts, page, width, scheme):
    opened(browser, page, width, scheme)
    typed(browser, "a red tile")
    of(browser, "toggle").click()
    for state in ("results", "item"):
        if state == "item":
            browser.find_element("css selector", "#results .open").click()
            of(browser, "why").click()
            wait(lambda: "is a sum over" in of(browser, "because").text)
        wide, inner = browser.execute_script(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert wide <= inner == WIDTHS[width][0]
        found = contrasts()
        assert len(found) > 10
        assert [(round(r, 2), words) for r, words in found if r < 4.5] == []
    silent(browser)


def test_controls_have_names_and_nothing_comes_from_elsewhere(browser, page):
    opened(browser, page)
    typed(browser, "a red tile")
    nameless = browser.execute_script(
        """return [...document.querySelectorAll("button, input, select, a, img")]
          .filter((n) => n.checkVisibility())
          .filter((n) => n.localName === "img" ? !n.hasAttribute("alt")
            : !(n.textContent.trim() || n.getAttribute("aria-label") || n.labels?.length))
          .map((n) => n.outerHTML)"""
    )
    assert nameless == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((each) => each.name)"
    )
    assert loaded and all(each.startswith((page, "data:", "blob:")) for each in loaded)


@contextmanager
def service_with_token(start, gallery):
    with start("--token", "0123456789abcdef0123", gallery=gallery) as service:
        yield service


def test_a_token_is_requested_and_a_lost_service_is_named(browser, start, index_of_tiles):
    with service_with_token(start, index_of_tiles) as service:
        address = f"http://127.0.0.1:{service.port}/"
        browser.get(address)
        wait(lambda: of(browser, "access").is_displayed())
        of(browser, "token").send_keys("0123456789abcdef0123\n")
        wait(lambda: browser.execute_script("return document.body.classList.contains('ready')"))
        typed(browser, "a red tile")
        wait(
            lambda: browser.execute_script(
                "return [...document.querySelectorAll('#results img')].some((i) => i.naturalWidth)"
            )
        )
    of(browser, "text").send_keys(" x")
    wait(lambda: of(browser, "error").text.startswith("The service cannot be reached"))
    browser.execute_script("sessionStorage.clear()")
