"""The search page in a real browser: pictures, sounds, texts, filters, reasons, keys, errors."""

import base64
import io
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")

#: The red tiles of the gallery.
REDS = ("red.png", "sub dir/red again.png", "file/file.png", "grün %2F ü&?#.jpg", "a..b...png")

#: A desktop, a phone, and a page at 400 % zoom.
WIDTHS = (1280, 390, 320)


@pytest.fixture(scope="module")
def page(request, start, index_of_tiles):
    """Return the address of a running service over an index with columns."""
    with start(gallery=index_of_tiles) as service:
        yield f"http://127.0.0.1:{service.port}/"


@pytest.fixture(scope="module")
def index_of_tiles(model, photos, tmp_path_factory):
    return indexed(model, photos, tmp_path_factory.mktemp("indexed") / "tiles.index")


def indexed(model, photos, folder):
    """Return the folder of an index with columns."""
    import crossfit
    from crossfit.galleries import read_gallery

    pytest.importorskip("faiss", reason="faiss is of the extra ann")
    pytest.importorskip("pyarrow", reason="pyarrow is of the extra tables")
    from crossfit.retrieval import Index

    gallery = read_gallery(photos)
    vectors = crossfit.encode(model, gallery.items, "image")
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


@pytest.fixture
def opened(opened):
    def ready(*given, **options):
        browser = opened(*given, **options)
        wait(lambda: browser.execute_script("return document.body.classList.contains('ready')"))
        return browser

    return ready


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


def test_typing_finds_and_the_address_keeps_the_query(browser, opened, page):
    opened(page)
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
    opened(f"{page}?q=a+green+tile")
    wait(lambda: "green" in ids(browser)[0])
    assert of(browser, "text").get_attribute("value") == "a green tile"
    silent(browser)


def test_a_file_is_dropped_and_removed_again(browser, opened, page, tmp_path):
    from crossfit.serving.limits import Limits

    opened(page)
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


def test_filters_by_columns_and_by_expression(browser, opened, page):
    opened(page)
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


def test_an_item_opens_with_reasons_and_leads_to_similar_ones(browser, opened, page):
    opened(page)
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


def test_the_keyboard_is_enough(browser, opened, page):
    from selenium.webdriver.common.keys import Keys

    opened(page)
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
def test_nothing_overflows_and_every_text_can_be_read(
    browser, opened, contrasts, page, width, scheme
):
    opened(page, width, scheme)
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
        assert wide <= inner == width
        found = contrasts()
        assert len(found) > 10
        assert [(round(r, 2), words) for r, words in found if r < 4.5] == []
    silent(browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fields_have_edges_that_can_be_seen(browser, opened, page, scheme):
    """Three to one, as WCAG 2 requires of the edges of controls."""
    opened(page, 1280, scheme)
    of(browser, "toggle").click()
    found = browser.execute_script(
        """const canvas = document.createElement("canvas").getContext("2d");
        const light = (colour) => {
          canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
          const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((c) => c / 255)
            .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const card = getComputedStyle(document.querySelector(".bar")).backgroundColor;
        return [...document.querySelectorAll(".bar, #filters select, #filters input")]
          .filter((n) => n.checkVisibility())
          .map((n) => [light(getComputedStyle(n).borderTopColor), light(card)]
            .sort((a, b) => b - a)).map(([a, b]) => (a + 0.05) / (b + 0.05));"""
    )
    assert len(found) > 3 and min(found) >= 3


def test_nothing_moves_where_people_ask_for_that(browser, opened, page):
    moving = """document.body.classList.add("busy");
        return [getComputedStyle(document.getElementById("results")).transitionDuration,
          getComputedStyle(document.querySelector(".bar"), "::after").animationName]"""
    opened(page, prefers_reduced_motion="no-preference")
    assert browser.execute_script(moving) == ["0.15s", "wait"]
    opened(page, prefers_reduced_motion="reduce")
    assert browser.execute_script(moving) == ["0s", "none"]


def test_forced_colours_keep_what_figures_show(browser, opened, page):
    opened(page, forced_colors="active")
    typed(browser, "a red tile")
    bar, ground = browser.execute_script(
        """const meter = document.querySelector(".meter");
        return [getComputedStyle(meter.querySelector("rect")).fill,
          getComputedStyle(meter).backgroundColor]"""
    )
    assert bar != ground
    browser.find_element("css selector", "#results .open").click()
    of(browser, "why").click()
    wait(lambda: "is a sum over" in of(browser, "because").text)
    lines = browser.execute_script(
        """return [...document.querySelectorAll("#because mark")]
          .map((n) => [n.className, getComputedStyle(n).borderBottomStyle])"""
    )
    assert lines and all((style == "none") == ("w0" in name.split()) for name, style in lines)
    opened(page)


def test_the_order_of_the_tab_key_is_that_of_the_page(browser, opened, page):
    from selenium.webdriver.common.keys import Keys

    opened(f"{page}?q=a+red+tile&where=year+%3E%3D+0")
    reached = []
    for _ in range(12):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.accessible_name)
    first = ["Skip to the results", "home", "text", "choose", "toggle"]
    filters = ["kind", "year, at least", "year, at most", "where", "clear"]
    assert reached[:10] == [*first, *filters]
    assert [name[-8:] for name in reached[10:]] == ["result 1", "result 2"]


def test_controls_have_names_and_nothing_comes_from_elsewhere(browser, opened, page):
    opened(page)
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
        assert "knows the token" in of(browser, "access-note").text
        of(browser, "token").send_keys("another\n")
        wait(lambda: "is wrong" in of(browser, "access-note").text)
        assert of(browser, "access").is_displayed() and not of(browser, "token").get_attribute(
            "value"
        )
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


def brought(browser, kind, data, name, media_type):
    """Drop or paste a file, as far as a script can."""
    browser.execute_script(
        """const [kind, data, name, type] = arguments;
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], name, {type}));
        if (kind === "paste") document.body.dispatchEvent(
          new ClipboardEvent("paste", {clipboardData: carried, bubbles: true, cancelable: true}));
        else for (const step of ["dragenter", "dragover", "drop"]) document.body.dispatchEvent(
          new DragEvent(step, {dataTransfer: carried, bubbles: true, cancelable: true}));""",
        kind, base64.b64encode(data).decode(), name, media_type,
    )  # fmt: skip


def png(colour):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(stream, "PNG")
    return stream.getvalue()


def test_a_picture_is_pasted(browser, opened, page):
    opened(page)
    brought(browser, "paste", png((40, 60, 220)), "image.png", "image/png")
    wait(lambda: "best first" in status(browser))
    assert answers(browser)[0] == "blue.png"
    assert "image.png" in of(browser, "given").text
    # A text that is pasted is one that is typed.
    browser.execute_script(
        """const carried = new DataTransfer();
        carried.setData("text/plain", "a red tile");
        window.kept = document.getElementById("text").dispatchEvent(new ClipboardEvent("paste",
          {clipboardData: carried, bubbles: true, cancelable: true}));"""
    )
    assert browser.execute_script("return window.kept") and not of(browser, "error").text
    silent(browser)


def test_broken_and_empty_files_are_named_and_the_page_goes_on(browser, opened, page):
    opened(page)
    whole = png((220, 30, 30))
    for data, words in (
        (whole[: len(whole) // 2], "The picture cannot be decoded"),
        (b"", "The file is empty"),
        (b"%PDF-1.7", "This file is of a type that cannot be searched with"),
    ):
        brought(browser, "drop", data, "broken.png", "image/png")
        wait(lambda words=words: of(browser, "error").text.startswith(words))
        assert of(browser, "error").is_displayed() and not of(browser, "curtain").is_displayed()
        assert ids(browser) == [] and status(browser) == ""
    brought(browser, "drop", whole, "whole.png", "image/png")
    wait(lambda: "best first" in status(browser))
    assert answers(browser)[0] in REDS and not of(browser, "error").is_displayed()


PLAYED = "return arguments[0].played.length && arguments[0].duration > 0.9"
TONES = {"deep": 110, "middle": 440, "high": 3500}


def tone(frequency, seed, rate=22_050):
    """Return one second of a tone with some noise."""
    rng = np.random.default_rng(seed)
    at = np.arange(rate) / rate
    wave = np.sin(2 * np.pi * (frequency * at + rng.random()))
    return (0.4 * wave + 0.01 * rng.normal(size=rate)).astype(np.float32)


@pytest.fixture(scope="module")
def tones(start, tmp_path_factory):
    """Return a service over a folder of sounds, and the folder."""
    soundfile = pytest.importorskip("soundfile", reason="soundfile is of the extra audio")
    pytest.importorskip("librosa", reason="librosa is of the extra audio")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import Pipeline

    import crossfit
    from crossfit import RetrievalScorer, Views, ViewTransformer
    from crossfit.extraction import LogMel
    from crossfit.methods import CCA

    top = tmp_path_factory.mktemp("tones")
    for folder, n in (("training", 6), ("gallery", 3)):
        (top / folder).mkdir()
        for word, frequency in TONES.items():
            for at in range(n):
                wave = tone(frequency * 1.02**at, len(folder) + at)
                soundfile.write(top / folder / f"{word} {at}.wav", wave, 22_050)
    files = sorted((top / "training").iterdir())
    extractors = [("audio", LogMel(output="moments", duration=1.0)), ("text", TfidfVectorizer())]
    model = Pipeline(
        [("features", ViewTransformer(extractors)), ("cca", CCA(2, reg=1.0)),
         ("scorer", RetrievalScorer())]
    )  # fmt: skip
    texts = [f"a {file.name.split()[0]} tone" for file in files]
    model.fit(Views(audio=[str(file) for file in files], text=texts))
    bundle = crossfit.save(model, top / "bundle")
    with start(gallery=top / "gallery", model=bundle) as service:
        yield f"http://127.0.0.1:{service.port}/", top / "gallery"


def test_sounds_are_found_played_dropped_and_compared(browser, opened, tones):
    page, folder = tones
    opened(page)
    assert "9 sounds" in of(browser, "about").text
    assert "drop, paste or choose a sound" in of(browser, "hint").text
    typed(browser, "a high tone")
    assert sorted(ids(browser)[:3]) == [f"high {at}.wav" for at in range(3)]
    players = browser.find_elements("css selector", "#results audio")
    assert len(players) == 9
    for player in players[:2]:
        browser.execute_script("arguments[0].muted = true; arguments[0].play()", player)
        wait(lambda player=player: browser.execute_script(PLAYED, player))
    assert browser.execute_script("return arguments[0].paused", players[0])
    data = (folder / "deep 1.wav").read_bytes()
    brought(browser, "drop", data, "growl.wav", "audio/wav")
    wait(lambda: "growl.wav" in of(browser, "given").text)
    wait(lambda: "best first" in status(browser) and not busy(browser))
    assert ids(browser)[0] == "deep 1.wav"
    browser.find_element("css selector", "#results .open").click()
    wait(lambda: of(browser, "media").find_elements("css selector", "audio"))
    of(browser, "why").click()
    wait(lambda: "Closest to it in the gallery" in of(browser, "because").text)
    of(browser, "similar").click()
    wait(lambda: "like=deep" in browser.current_url and not busy(browser))
    assert sorted(answers(browser)[:2]) == ["deep 0.wav", "deep 2.wav"]
    silent(browser)


def test_a_sound_is_recorded(browser, opened, tones):
    page, _ = tones
    opened(page)
    button = of(browser, "record")
    button.click()
    wait(lambda: button.get_attribute("aria-pressed") == "true")
    assert button.get_attribute("aria-label") == "Stop recording"
    assert "Recording for at most 10 seconds" in status(browser)
    time.sleep(1.2)
    button.click()
    wait(lambda: "recording.wav" in of(browser, "given").text)
    wait(lambda: "best first" in status(browser) and not busy(browser))
    assert len(ids(browser)) == 9
    assert button.get_attribute("aria-pressed") == "false"
    assert button.get_attribute("aria-label") == "Record a sound"
    brought(browser, "drop", b"RIFF" + bytes(60), "broken.wav", "audio/wav")
    wait(lambda: of(browser, "error").text.startswith("This file is of a type that cannot"))


def test_texts_are_found_by_texts_and_by_pictures(browser, opened, start, tmp_path):
    table = tmp_path / "captions.csv"
    words = ("red", "green", "blue", "yellow")
    rows = [f"{word}-{n},a {word} tile number {n}" for word in words for n in range(4)]
    table.write_text("\n".join(["id,text", *rows]) + "\n")
    with start("--view", "text", gallery=table) as service:
        opened(f"http://127.0.0.1:{service.port}/")
        assert "16 texts" in of(browser, "about").text
        typed(browser, "a green tile")
        assert all("green" in found for found in ids(browser)[:4])
        assert browser.find_elements("css selector", "#results img, #results audio") == []
        brought(browser, "drop", png((40, 60, 220)), "sky.png", "image/png")
        wait(lambda: "sky.png" in of(browser, "given").text)
        wait(lambda: "best first" in status(browser) and not busy(browser))
        assert all("blue" in found for found in ids(browser)[:4])
        browser.find_element("css selector", "#results .open").click()
        quoted = wait(lambda: browser.find_element("css selector", "#media blockquote").text)
        assert quoted.startswith("a blue tile number")
        of(browser, "why").click()
        box = wait(
            lambda: "is a sum over" in of(browser, "because").text and of(browser, "because")
        )
        named = [found.text for found in box.find_elements("css selector", ".end strong")]
        assert named and all(set(found.split(", ")) <= {*words, "number"} for found in named)
        of(browser, "similar").click()
        wait(lambda: "like=blue" in browser.current_url and not busy(browser))
        assert all("blue" in found for found in answers(browser)[:3])
        silent(browser)


def test_items_that_come_and_go_while_the_page_is_open(
    browser, opened, start, model, photos, tmp_path
):
    import crossfit
    from crossfit.retrieval import Index

    folder = indexed(model, photos, tmp_path / "changing.index")
    with start(gallery=folder) as service:
        opened(f"http://127.0.0.1:{service.port}/")
        typed(browser, "a pink tile")
        assert ids(browser)[0] == "pink.png"
        browser.find_element("css selector", "#results .open").click()
        wait(lambda: of(browser, "item").is_displayed())
        path = str(photos / "pink.png")
        with Index.open(folder, "a") as index:
            row = {"path": [path], "kind": ["colour"], "year": [99]}
            index.add(crossfit.encode(model, [path], "image"), ["new.png"], row)
            index.remove(["pink.png"])
        time.sleep(1.1)  # a service looks for changes every second
        of(browser, "why").click()
        wait(lambda: "no item 'pink.png'" in of(browser, "because").text)
        of(browser, "similar").click()
        wait(lambda: "no item 'pink.png'" in of(browser, "error").text.casefold())
        typed(browser, "pink tile")
        assert ids(browser)[0] == "new.png" and "pink.png" not in ids(browser)
        service.process.terminate()
        service.process.wait()
        of(browser, "text").send_keys("s")
        wait(lambda: of(browser, "error").text.startswith("The service cannot be reached"))
        assert ids(browser) == [] and not busy(browser)
