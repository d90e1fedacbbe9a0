"""The report in a real browser: widths, sorting, keyboard, light and dark."""

from itertools import pairwise

import pytest

from crossfit.report.from_runs import report_runs

WIDTHS = (1280, 390)

# The positions of the titles of the panels of the first plot.
TITLES = """
return [...document.querySelector("figure").querySelectorAll("text")]
  .filter((t) => t.checkVisibility() && t.textContent.includes("→"))
  .map((t) => [t.getBoundingClientRect().left, t.getBoundingClientRect().top]);
"""


@pytest.fixture(scope="module")
def page(report_store, tmp_path_factory):
    return report_runs(["main"], report_store, tmp_path_factory.mktemp("browser")).as_uri()


@pytest.fixture
def opened(opened):
    def complete(*given, **options):
        browser = opened(*given, **options)
        browser.execute_script(
            "for (const d of document.querySelectorAll('details')) d.open = true"
        )
        return browser

    return complete


def column(browser, heading, group=0):
    """Return the button of a heading of the leaderboard, and a reader of its column."""
    return browser.execute_script(
        """const table = document.querySelector("table.sortable");
        const heads = [...table.tHead.rows[1].cells];
        const at = heads.filter((h) => h.textContent.trim().startsWith(arguments[0]))[arguments[1]];
        return [at.querySelector("button"), at.cellIndex, at];""",
        heading, group,
    )  # fmt: skip


def values(browser, at):
    found = browser.execute_script(
        """const table = document.querySelector("table.sortable");
        return [...table.tBodies[0].rows].filter((r) => !r.classList.contains("chance"))
          .map((r) => r.cells[arguments[0]].dataset.value ?? r.cells[arguments[0]].innerText);""",
        at,
    )
    return [float(value) for value in found]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_the_console_is_silent(browser, opened, page, width, scheme):
    browser.get_log("browser")
    opened(page, width, scheme)
    wide, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert inner == width
    assert wide <= inner
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert browser.execute_script("return window.pwned === undefined")


def test_the_leaderboard_fits_a_desktop(browser, opened, page):
    opened(page)
    inside, room = browser.execute_script(
        """const box = document.querySelector("table.sortable").parentElement;
        return [box.scrollWidth, box.clientWidth]"""
    )
    assert inside <= room


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser, opened, contrasts, page, width, scheme):
    opened(page, width, scheme)
    found = contrasts()
    assert len(found) > 300
    poor = [(round(ratio, 2), words) for ratio, words in found if ratio < 4.5]
    assert poor == []


def test_light_and_dark_differ(browser, opened, page):
    grounds = set()
    for scheme in ("light", "dark"):
        opened(page, scheme=scheme)
        grounds.add(browser.execute_script("return getComputedStyle(document.body).background"))
    assert len(grounds) == 2


def test_a_click_sorts_and_a_second_click_turns_the_order(browser, opened, page):
    opened(page)
    button, at, head = column(browser, "R@1", 0)
    before = values(browser, at)
    assert head.get_attribute("aria-sort") is None
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert values(browser, at) == sorted(before, reverse=True)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert values(browser, at) == sorted(before)
    assert browser.execute_script("return document.querySelectorAll('[aria-sort]').length") == 1
    last = browser.execute_script(
        "return document.querySelector('table.sortable').tBodies[0].lastElementChild.className"
    )
    assert last == "chance"
    assert "ascending" in browser.execute_script(
        "return document.getElementById('status').innerText"
    )


def test_ranks_and_times_sort_upwards_first(browser, opened, page):
    opened(page)
    for heading in ("MedR", "fit", "rank"):
        button, at, head = column(browser, heading)
        button.click()
        assert head.get_attribute("aria-sort") == "ascending"
        found = values(browser, at)
        assert all(a <= b for a, b in pairwise(found))


def test_the_keyboard_sorts_too(browser, opened, page):
    from selenium.webdriver.common.keys import Keys

    opened(page)
    _, at, head = column(browser, "R@10", 0)
    body = browser.find_element("tag name", "body")
    for _ in range(40):
        body.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        if focused.text.strip().startswith("R@10"):
            break
    else:
        pytest.fail("Tab never reached the heading R@10")
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    focused.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"
    found = values(browser, at)
    assert found == sorted(found, reverse=True)
    focused.send_keys(Keys.SPACE)
    assert head.get_attribute("aria-sort") == "ascending"


def test_names_sort_as_words(browser, opened, page):
    opened(page)
    button, _, _ = column(browser, "method")
    button.click()
    names = browser.execute_script(
        """return [...document.querySelector("table.sortable").tBodies[0].rows]
          .map((r) => r.cells[0].firstChild.textContent)"""
    )
    assert names[:4] == ["bad </td><script>window.pwned = 1</script> & $x_1$ 100%", "CCA 2",
                         "CCA 4", "CCA 8"]  # fmt: skip
    assert names[-1] == "chance"


def test_every_picture_and_plot_is_drawn(browser, opened, page):
    opened(page)
    broken = browser.execute_script(
        """for (const i of document.images) i.loading = "eager";
        return [...document.images].filter((i) => i.complete && !i.naturalWidth).length"""
    )
    assert broken == 0
    boxes = browser.execute_script(
        """return [...document.querySelectorAll('svg')].filter((s) => s.checkVisibility())
          .map((s) => s.getBoundingClientRect().height)"""
    )
    # Intervals, recall, precision, cost, a sweep, two trainings, two searches, attention.
    assert len(boxes) == 10
    assert min(boxes) > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut(browser, opened, page, scheme):
    """Tables scroll in their own box, and the panels of plots are below each other."""
    opened(page, 390, scheme)
    browser.execute_script("window.scrollTo(1000, 0)")
    assert browser.execute_script("return window.scrollX") == 0
    plots = browser.execute_script(
        """return [...document.querySelectorAll("figure svg")].filter((s) => s.checkVisibility())
          .map((s) => [s, s.closest("figure")].map((n) => n.getBoundingClientRect()))
          .map(([s, f]) => [f.left, s.left, s.right, f.right, s.width])"""
    )
    assert len(plots) == 10
    for left, begin, end, right, _ in plots:
        assert 0 <= left <= begin < end <= right <= 390
    assert min(width for *_, width in plots) > 280
    cut = browser.execute_script(
        """return [...document.querySelectorAll("figure svg text")]
          .filter((t) => t.checkVisibility())
          .filter((t) => { const a = t.getBoundingClientRect(),
            b = t.closest("svg").getBoundingClientRect();
            return a.left < b.left - 1 || a.right > b.right + 1; })
          .map((t) => t.textContent)"""
    )
    assert cut == []
    small = browser.execute_script(
        """return [...document.querySelectorAll("figure svg")].filter((s) => s.checkVisibility())
          .flatMap((s) => [...s.querySelectorAll("text")])
          .map((t) => t.getBoundingClientRect().height).filter((h) => h && h < 8).length"""
    )
    assert small == 0, "letters of a plot are too small to read"


def test_a_wide_page_has_the_directions_side_by_side(browser, opened, page):
    opened(page)
    first = browser.execute_script(TITLES)
    assert len(first) == 2 and first[0][1] == pytest.approx(first[1][1], abs=2)
    opened(page, 390)
    stacked = browser.execute_script(TITLES)
    assert len(stacked) == 2 and stacked[0][0] == pytest.approx(stacked[1][0], abs=2)
