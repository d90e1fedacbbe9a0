"""Ten thousand hostile requests to a service in a process of its own.

Every answer is a right one or a refusal in one sentence; the service lives on, its memory is
bounded, and no file outside the gallery is ever sent.
"""

import http.client
import io
import json
import random
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")

REQUESTS = 10_000
SLOW = 40
JSON = {"Content-Type": "application/json"}


def png(width, height, data=None, depth=8, colour=2, extra=b""):
    """Return a PNG file with any header; by default its pixels are black."""

    def chunk(kind, content):
        content = kind + content
        length = struct.pack(">I", len(content) - 4)
        return length + content + struct.pack(">I", zlib.crc32(content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    if data is None:
        data = zlib.compress(bytes(height * (1 + width * 3)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(
        b"IEND", b""
    )  # fmt: skip


def saved(kind, size=(40, 30), **options):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, kind, **options)
    return stream.getvalue()


GOOD = [saved(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
BOMBS = [
    png(4_900, 5_000),  # within the limit: 73 MB of pixels in 70 kB
    png(60_000, 60_000, b""),
    png(2**31 - 1, 2**31 - 1, b""),
    png(5_001, 5_000),
    png(64, 64, zlib.compress(bytes(50_000_000), 9)),  # far more data than pixels
    png(64, 64, extra=png(1, 1)[33:-12]),
    saved("GIF")[:6] + b"\xff\xff\xff\xff" + saved("GIF")[10:],
    saved("BMP")[:18] + struct.pack("<ii", 100_000, 100_000) + saved("BMP")[26:],
]
WORDS = ["", " ", "a red tile", "\x00", "a\x00b", "\ud800", "\u202e", "'", '"', "%s%n", "../" * 30,
         "${jndi:ldap://x}", "<script>alert(1)</script>", "a" * 10_000, "a" * 100_000, "😀" * 3_000,
         "é" * 9_999, "\r\nX: y", "{{7*7}}", "; DROP TABLE items"]  # fmt: skip
FILTERS = ["path == 'x'", "year > 3 and 'a' in path", "lambda: 0", "not " * 999 + "a",
           "__import__('os').system('x')", "(" * 2_000,
          "a" * 9_999, "1 == ", "x.__class__", "'" * 99, "path in (" + "1," * 3_000 + ")",
          "read_csv('/etc/passwd')", "select 1", "\x00", "path == path and " * 500 + "1 == 1",
          "9" * 5_000 + " == 1", "`id`", "path matches '(a+)+$'"]  # fmt: skip
NUMBERS = [0, -1, 1, 10, 1000, 1001, 2**31, 2**63, 10**400, 1.5, "7", True, None, [], {}, "NaN"]
PATHS = ["../secret.png", "..%2fsecret.png", "%2e%2e/secret.png", "..%5csecret.png", "/etc/passwd",
         "%2fetc%2fpasswd", "....//secret.png", "%c0%ae%c0%ae/secret.png", "red.png%00.txt",
         "..%252fsecret.png", "file:///etc/passwd", "sub%20dir/../../secret.png", "%ff%fe", "",
         "%", "%zz", "/", "//", ".", "..", "a" * 5_000, "%00", "?", "proc/self/environ",
         "red.png/../../secret.png", "secret.png", "../tiles/manifest.json"]  # fmt: skip


def value(rng, depth=0):
    """Return any JSON value."""
    kind = rng.randrange(8 if depth < 4 else 5)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice(WORDS)[:50]: value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice(rng.choice([WORDS, NUMBERS, [True, None, -0.0, 1e308], FILTERS, [2**70]]))


def body(rng):
    """Return the body of a search, of which any part may be wrong."""
    found = {
        rng.choice(["text", "texts", "vector", "vectors", "id", "what"]): rng.choice(
            [rng.choice(WORDS), [rng.choice(WORDS)] * rng.choice([1, 3, 65]), value(rng),
             [rng.choice([0.5, 1e300, "x", None])] * rng.choice([1, 8, 5_000]),
             [[0.1] * rng.choice([1, 8])] * rng.choice([1, 2, 65])]
        )
    }  # fmt: skip
    for name, choices in (("k", NUMBERS), ("where", FILTERS), ("rerank", NUMBERS)):
        if rng.random() < 0.4:
            found[name] = rng.choice(choices)
    return found


def question(rng):
    """Return the body of a request for reasons, of which any part may be wrong."""
    names = ["red.png", "file/file.png", "grün %2F ü&?#.jpg", "a red tile"]
    found = {rng.choice(["text", "text", "id", "what"]): rng.choice([*names, *WORDS, value(rng)])}
    if rng.random() < 0.9:
        found["item"] = rng.choice([*names, *names, rng.choice(WORDS), value(rng)])
    if rng.random() < 0.1:
        found[rng.choice(["id", "k", "where"])] = rng.choice([*names, *NUMBERS])
    return found


def form(rng, content):
    """Return the type and the body of an upload that may be malformed."""
    edge = rng.choice(["x", "-" * 60, "a b", "x" * 300])
    name = rng.choice(["file", "file", "file", "other", "", 'fi"le', "k"])
    filename = rng.choice(["a.png", "../../etc/passwd", "\x00", "a" * 5_000, "", "é.jpg"])
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    parts = [head.encode() + b"Content-Type: image/png\r\n\r\n" + content]
    for field in ("k", "where", "rerank", "x", "item"):
        if rng.random() < 0.2:
            text = str(rng.choice([*NUMBERS, *FILTERS, *WORDS, "red.png"])).encode(
                "utf-8", "surrogatepass"
            )
            parts.append(f'Content-Disposition: form-data; name="{field}"\r\n\r\n'.encode() + text)
    if rng.random() < 0.1:
        parts *= rng.choice([2, 200])
    start = b"--" + edge.encode()
    data = b"".join(start + b"\r\n" + part + b"\r\n" for part in parts) + start + b"--\r\n"
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data))]
    kind = rng.choice([f"multipart/form-data; boundary={edge}"] * 8 + ["multipart/form-data"])
    return {"Content-Type": kind}, data


def damaged(rng, content):
    content = bytearray(content)
    for _ in range(rng.randrange(1, 20)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.randrange(1, len(content) + 1)])


def regular(rng):
    """Return method, path, headers and body of a request that is valid HTTP."""
    kind = rng.random()
    if kind < 0.35:
        path = rng.choice(["/search", "/search", "/explain"])
        text = json.dumps(body(rng) if path == "/search" else question(rng)).encode()
        if rng.random() < 0.1:
            text = rng.choice([
                b"[" * 100_000, b'{"text":' * 5_000, b"{", b"", b"null", b"\xff\xfe", text[:-1],
                b'{"text": "\\ud800"}', b'{"k": ' + b"9" * 100_000 + b"}", b"NaN",
                b'{"vector": [NaN]}',
                b'{"text": "a", "text": "b"}', b'{"vector": [' + b"1," * 400_000 + b"1]}",
                b'{"text": "' + b"a" * 2_100_000 + b'"}',
            ])  # fmt: skip
        return "POST", path, JSON, text
    if kind < 0.6:
        content = rng.choice([*GOOD, bytes(rng.randrange(300)), b"%PDF-1.4", b"<svg/>", b"%!PS"])
        if rng.random() < 0.6:
            content = damaged(rng, content) if content else content
        if rng.random() < 0.02:
            content = rng.choice(BOMBS)
        return "POST", rng.choice(["/search", "/search", "/explain"]), *form(rng, content)
    if kind < 0.85:
        name = rng.choice([*PATHS, quote(rng.choice(WORDS)[:500], safe="", errors="replace")])
        part = rng.choice(["", "/file", "/thumbnail", "/file/", "/x", "//file"])
        return rng.choice(["GET", "GET", "HEAD", "POST"]), f"/items/{name}{part}", {}, None
    if kind < 0.95:
        path = rng.choice(["/", "/search", "/about", "/metrics", "/openapi.json", "/docs",
                           "/static/", "/static/../app.py", "/static/%2e%2e/app.py", "/%2e%2e/",
                           "/search?" + "a" * 9_000, "/health", "*", "http://other/search",
                           "/items", "/explain", "/gallery"])  # fmt: skip
        method = rng.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "HEAD"])
        return method, path, {}, rng.choice([None, b"x" * 1_000])
    headers = rng.choice([
        {"Host": "evil.example"}, {"Host": ""}, {"Host": "localhost.evil"}, {"Host": "[::1"},
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Content-Encoding": "gzip"},
        {"Authorization": "Bearer \xff"}, {"Content-Type": "text/plain"}, {"Accept": "x" * 9_000},
        {"Content-Type": "application/json; charset=utf-7"}, {"Range": "bytes=0-1,2-3" * 99},
        {"Transfer-Encoding": "gzip, chunked"}, {"X-Forwarded-For": "1.2.3.4"},
    ])  # fmt: skip
    return "POST", "/search", {**JSON, **headers}, b'{"text": "a red tile"}'


RAW = [
    b"", b"\r\n" * 50, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    b"POST /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"FFFFFFFFFFFFFFFF\r\nabc",
    b"POST /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
    b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 9_000 + b"\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET /health HTTP/1.1\r\n\r\n", b"GET /h\xffealth HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /items/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x00" * 1_000,
    b"GET /health HTTP/1.1\nHost: localhost\n\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def held(photos):
    """Return the names and the contents of the gallery."""
    files = [path for path in photos.rglob("*") if path.is_file()]
    names = {path.relative_to(photos).as_posix() for path in files}
    return names, {path.read_bytes() for path in files}


def judged(status, headers, content, held, what):
    """Check one answer."""
    names, files = held
    kind = headers.get("content-type", "")
    assert status in (503, 504) or 200 <= status < 500, (status, content[:300], what)
    if status >= 400:
        assert kind == "application/json", (status, kind, what)
        if content:  # an answer to HEAD has no body
            error = json.loads(content)
            assert set(error) == {"error"}, what
            sentence = error["error"]
            assert 5 < len(sentence) <= 500, what
            assert "\n" not in sentence, what
            assert "Traceback" not in sentence, what
            assert "/tmp" not in sentence, what
    elif "image/jpeg" in kind and b"JFIF" in content and content not in files:
        Image.open(io.BytesIO(content)).load()  # a thumbnail
    elif kind.startswith(("image/", "audio/", "application/octet-stream")):
        assert not content or content in files, what
    elif kind == "application/json" and content:
        found = json.loads(content)
        for rows in found.get("results", []):
            assert {row["id"] for row in rows} <= names, what
        if "directions" in found:
            ends = [each[side] for each in found["directions"] for side in ("towards", "away")]
            rows = [*found["alike"], *(row for end in ends for row in end["items"])]
            assert {row["id"] for row in rows} <= names, what
    assert b"root:" not in content, what
    assert headers.get("x-content-type-options") == "nosniff" or status == 400, what
    return status


def talk(port, seed, count, held):
    """Send regular requests over one connection; return how often each status came."""
    rng = random.Random(seed)
    counts = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(count):
        method, path, headers, content = regular(rng)
        try:
            connection.request(method, path, content, headers)
        except (ValueError, UnicodeError, http.client.InvalidURL):
            # The client rejects it; send it as it is.
            status = shout(port, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n", held)
            counts[status] = counts.get(status, 0) + 1
            continue
        except (BrokenPipeError, ConnectionResetError):
            connection.close()
            connection.request(method, path, content, headers)
        try:
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            connection.close()  # an idle connection was closed meanwhile
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
        data = answer.read()
        headers = {name.lower(): part for name, part in answer.getheaders()}
        status = judged(
            answer.status, headers, data, held, (method, path[:200], (content or b"")[:200])
        )
        counts[status] = counts.get(status, 0) + 1
    connection.close()
    return counts


def shout(port, message, held):
    """Send bytes that need not be HTTP; return the status of the answer, 0 if there is none."""
    message = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        try:
            stream.sendall(message)
            stream.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(stream)
            answer.begin()
        except (http.client.HTTPException, OSError):
            return 0
        data = answer.read()
        headers = {name.lower(): part for name, part in answer.getheaders()}
        return judged(answer.status, headers, data, held, message[:100])


def crawl(port, number):
    """Send a head or a body byte by byte; return the status, and the seconds that it took."""
    begun = time.monotonic()
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    message = head if number % 2 else head + b"Content-Length: 500\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        stream.sendall(message)
        stream.settimeout(0.2)
        while time.monotonic() - begun < 30:
            try:
                found = stream.recv(100)
                break
            except TimeoutError:
                stream.sendall(b"a")
            except OSError:
                found = b""
                break
    status = int(found[9:12]) if found.startswith(b"HTTP") else 0
    return status, time.monotonic() - begun


@pytest.mark.slow
def test_ten_thousand_hostile_requests(start, held, index):
    with start("--limit", "body_seconds=2", "--limit", "seconds=10", gallery=index) as service:
        process = psutil.Process(service.process.pid)
        calm = process.memory_info().rss
        begun = time.monotonic()
        workers = 8
        with ThreadPoolExecutor(workers + 4 + SLOW) as pool:
            slow = [pool.submit(crawl, service.port, number) for number in range(SLOW)]
            share = (REQUESTS - SLOW - 40 * len(RAW)) // workers
            talks = [pool.submit(talk, service.port, seed, share, held) for seed in range(workers)]
            shouts = [pool.submit(shout, service.port, raw, held) for raw in RAW * 40]
            peak = calm
            while not all(task.done() for task in talks):
                peak = max(peak, process.memory_info().rss)
                time.sleep(0.05)
            counts = {}
            for task in talks:
                for status, count in task.result().items():
                    counts[status] = counts.get(status, 0) + count
            raw = [task.result() for task in shouts]
            for number, task in enumerate(slow):
                status, seconds = task.result()
                assert status == (0 if number % 2 else 408)
                assert seconds < 15
        took = time.monotonic() - begun
        print(f"{took:.0f} s, {counts}, raw {({s: raw.count(s) for s in set(raw)})}, "
              f"{calm / 1e6:.0f} MB, then at most {peak / 1e6:.0f} MB")  # fmt: skip
        assert service.process.poll() is None
        assert set(raw) <= {0, 200, 400, 403, 404, 405, 413, 415}
        # Every kind of refusal occurred, and right answers too.
        assert {200, 400, 403, 404, 405, 413, 415, 422} <= set(counts)
        assert took < 300
        assert peak - calm < 600e6
        answer = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        answer.request("POST", "/search", b'{"text": "a yellow tile", "k": 1}', JSON)
        assert json.load(answer.getresponse())["results"][0][0]["id"] == "yellow.png"
        errors = [line for line in service.log if '"level": "error"' in line]
        assert not errors, errors[:3]
