"""Access and limits: hosts, origins, tokens, sizes and times."""

import asyncio
import json
import logging
import time

import pytest

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
httpx = pytest.importorskip("httpx", reason="httpx is of the extra test")

TOKEN = "0123456789abcdef"


def made(bundle, photos, **options):
    """Return an application, and a client of it in an event loop."""
    from crossfit.serving import Limits, build_app

    limits = Limits(**options.pop("limits", {}))
    return build_app(bundle, photos, limits=limits, **options)


def asked(app, method, path, host="localhost", **options):
    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **options)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def plain(bundle, photos):
    return made(bundle, photos, hosts=("search.example",))


@pytest.fixture(scope="module")
def guarded(bundle, photos):
    return made(bundle, photos, token=TOKEN)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "search.example"])
def test_known_hosts(plain, host):
    assert asked(plain, "GET", "/about", host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "127.0.0.2"]
)
def test_a_name_that_leads_here_from_elsewhere_is_refused(plain, host):
    answer = asked(plain, "GET", "/about", host)
    assert answer.status_code == 403
    assert set(answer.json()) == {"error"}


def test_pages_of_other_sites_are_refused(plain):
    for origin, status in (
        ("http://localhost", 200), ("http://evil.example", 403), ("null", 403), ("", 403),
        ("http://localhost:99", 403),
    ):  # fmt: skip
        answer = asked(plain, "GET", "/about", headers={"Origin": origin})
        assert answer.status_code == status, origin
        assert "access-control-allow-origin" not in answer.headers


def test_a_token_opens_everything_but_is_not_needed_for_health(guarded):
    for path in ("/about", "/metrics", "/openapi.json", "/items/red.png/file", "/nothing"):
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": TOKEN},
                        {"Authorization": f"Bearer {TOKEN}x"}):  # fmt: skip
            answer = asked(guarded, "GET", path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = asked(guarded, "GET", path, headers={"Authorization": f"bearer {TOKEN}"})
        assert answer.status_code == (404 if path == "/nothing" else 200)
    assert asked(guarded, "GET", "/health", "any.name").status_code == 200


def test_every_answer_has_the_headers_of_security(plain):
    for path in ("/about", "/nothing", "/items/red.png/file"):
        headers = asked(plain, "GET", path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"


JSON = {"Content-Type": "application/json"}


def test_bodies_are_bounded_also_without_a_length(bundle, photos):
    app = made(bundle, photos, limits={"json_bytes": 1_000, "body_bytes": 2_000})
    sent = 0

    async def chunks():
        nonlocal sent
        for _ in range(1_000):
            sent += 1_000
            yield b"a" * 1_000

    for options in (
        {"content": b"a" * 1_001, "headers": JSON},
        {"content": chunks(), "headers": JSON},
        {"files": {"file": b"a" * 2_000}},
    ):
        answer = asked(app, "POST", "/search", **options)
        assert answer.status_code == 413
        assert "bytes" in answer.json()["error"]
    assert sent < 30_000  # the rest is not read
    answer = asked(app, "POST", "/search", content=b'{"text": "tile"}', headers=JSON)
    assert answer.status_code == 200


def test_slow_bodies_and_slow_answers(bundle, photos):
    app = made(bundle, photos, limits={"body_seconds": 0.2, "seconds": 0.3})

    async def slowly():
        for _ in range(50):
            await asyncio.sleep(0.05)
            yield b" "

    begun = time.monotonic()
    assert asked(app, "POST", "/search", content=slowly(), headers=JSON).status_code == 408
    service = app.app.state.service
    service._batcher._run = lambda jobs: time.sleep(1.0) or [[]] * len(jobs)
    answer = asked(app, "POST", "/search", json={"text": "tile"})
    assert answer.status_code == 504
    assert "0.3 seconds" in answer.json()["error"]
    assert time.monotonic() - begun < 5
    assert service.room.taken == 0


def test_too_many_queries_and_too_many_requests(bundle, photos):
    app = made(bundle, photos, limits={"queue": 3, "requests": 1})
    answer = asked(app, "POST", "/search", json={"texts": ["a tile"] * 4})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    app._open = 1
    answer = asked(app, "GET", "/about")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_fault_of_the_program_is_logged_and_not_shown(bundle, photos, caplog):
    app = made(bundle, photos)

    def broken(jobs):
        raise KeyError("secret")

    app.app.state.service._batcher._run = broken
    with caplog.at_level(logging.INFO, "crossfit.serving"):
        answer = asked(app, "POST", "/search", json={"text": "tile"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert set(answer.json()) == {"error"}
    assert any(record.exc_info for record in caplog.records)


def test_a_line_of_log_has_no_query(plain, caplog):
    with caplog.at_level(logging.INFO, "crossfit.serving"):
        asked(plain, "POST", "/search?q=hidden", json={"text": "hidden tile"})
        asked(plain, "GET", "/items/hidden")
    lines = [record.line for record in caplog.records]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/search", 200), ("/items/{id}", 404),
    ]  # fmt: skip
    assert "hidden" not in json.dumps(lines)
