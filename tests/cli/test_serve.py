"""`crossfit serve`, as a process on the loopback interface."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
pytest.importorskip("uvicorn", reason="uvicorn is of the extra serve")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a winner, photos, and a model without extractors."""
    top = tmp_path_factory.mktemp("serve")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, size=(30, 16, 16, 3), dtype=np.uint8)
    texts = [f"{'light' if n % 2 else 'dark'} noise {n}" for n in range(30)]
    features = ViewTransformer([("image", GridFeatures(2)), ("text", TfidfVectorizer())])
    steps = [("features", features), ("cca", CCA(4, reg=1.0)), ("scorer", RetrievalScorer())]
    crossfit.save(Pipeline(steps).fit(Views(image=pictures, text=texts)), top / "winner")
    Z = rng.normal(size=(30, 4))
    crossfit.save(CCA(2).fit(Views(image=Z, text=Z)), top / "bare")
    (top / "photos").mkdir()
    for n, pixels in enumerate(pictures[:8]):
        Image.fromarray(pixels).save(top / "photos" / f"{n}.png")
    (top / "empty").mkdir()
    crossfit.save(GridFeatures(2), top / "extractor")
    crossfit.save(CCA(2), top / "unfitted")
    return top


@pytest.fixture
def start(command, folder):
    """Return ``start(*words)``, a running service and its address."""
    running = []

    def begin(*words, **environment):
        process = subprocess.Popen(
            [*command, "serve", "winner", "--gallery", "photos", "--port", "0", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
            env={**os.environ, **environment},
        )  # fmt: skip
        running.append(process)
        line = process.stdout.readline()
        assert line.startswith("http://"), process.stderr.read()
        return process, line.split()[0].rstrip("/")

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def post(address, body, **headers):
    request = urllib.request.Request(
        f"{address}/search",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"} | headers,
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_logs_a_line_for_each_request(start, number):
    process, address = start()
    assert len(post(address, {"text": "dark secret", "k": 3})["results"][0]) == 3
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = err.splitlines()[1:]
    assert len(lines) == 1, err
    line = json.loads(lines[0])
    assert (line["method"], line["route"], line["status"]) == ("POST", "/search", 200)
    assert "secret" not in out + err


def test_a_token_is_required_beyond_loopback_and_checked(start, run, folder):
    done = run("serve", "winner", "--gallery", "photos", "--host", "0.0.0.0", cwd=folder)
    assert done.returncode == 2
    assert "CROSSFIT_TOKEN" in done.stderr
    done = run("serve", "winner", "--gallery", "photos", "--token", "short", cwd=folder)
    assert done.returncode == 2
    assert "16" in done.stderr
    token = "0123456789abcdef"
    _, address = start(CROSSFIT_TOKEN=token)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(address, {"text": "dark"}, **headers)
        assert caught.value.code == 401
        assert "token" in json.load(caught.value)["error"]
    assert post(address, {"text": "dark"}, Authorization=f"Bearer {token}")["results"]
    with urllib.request.urlopen(f"{address}/health", timeout=30) as answer:
        assert json.load(answer)["items"] == 8


def one_line(done, *words):
    assert done.returncode == 1, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("crossfit: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in message


def test_what_is_wrong_is_one_sentence(run, folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "winner", "--gallery", "photos", "--port", port, cwd=folder)
        one_line(done, port, "in use")
    one_line(run("serve", "photos", "--gallery", "photos", "--port", "0", cwd=folder), "photos")
    one_line(run("serve", "winner", "--gallery", "empty", "--port", "0", cwd=folder), "empty")
    for name, word in (("extractor", "cannot search"), ("unfitted", "not fitted")):
        one_line(run("serve", name, "--gallery", "photos", "--port", "0", cwd=folder), word)
    one_line(run("serve", "bare", "--gallery", "photos", "--port", "0", cwd=folder), "bare")
    done = run("serve", "winner", "--gallery", "missing", "--port", "0", cwd=folder)
    assert done.returncode == 2
    assert "missing" in done.stderr


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "python_multipart", "prometheus_client"])
def test_without_the_extra_the_error_names_it(folder, missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from crossfit.cli import main\n"
        "main(['serve', 'winner', '--gallery', 'photos', '--port', '0'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    one_line(done, "crossfit-retrieval[serve]")


def test_it_can_be_interrupted_while_it_loads(command, folder):
    process = subprocess.Popen(
        [*command, "serve", "winner", "--gallery", "photos", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    assert process.stderr.readline().startswith("loading")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # If it was ready by then, it stopped as a service.
    assert process.returncode in (0, 130)
    assert "Traceback" not in err
