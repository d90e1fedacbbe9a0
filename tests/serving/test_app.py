"""The HTTP interface, without a process of its own."""

import io
import zlib
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image, ImageColor

import crossfit
from crossfit.galleries import read_gallery

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_a_text_finds_what_crossfit_search_finds(client, model, photos):
    files = read_gallery(photos).items
    for text in ("a red tile", "yellow tile", "something unknown"):
        expected = crossfit.search(model, [text], view="text", gallery=files, k=5)
        answer = client.post("/search", json={"text": text, "k": 5}).json()
        (found,) = answer["results"]
        assert [row["rank"] for row in found] == [1, 2, 3, 4, 5]
        assert [str(photos / row["id"]) for row in found] == expected.items[0].tolist()
        assert np.allclose([row["score"] for row in found], expected.scores[0], atol=1e-6)
        assert answer["took_ms"] > 0


def test_batches_pictures_vectors_and_items(client, model, photos):
    texts = ["a yellow tile", "a blue tile"]
    rows = client.post("/search", json={"texts": texts, "k": 1}).json()["results"]
    assert [row[0]["id"].split(".")[0] for row in rows] == ["yellow", "blue"]
    vectors = crossfit.encode(model, texts, "text").tolist()
    by_vector = client.post("/search", json={"vectors": vectors, "k": 1}).json()["results"]
    assert [row[0]["id"] for row in by_vector] == [row[0]["id"] for row in rows]
    content = (photos / "pink.png").read_bytes()
    upload = client.post("/search", files={"file": ("x.exe", content)}, data={"k": "2"})
    (found,) = upload.json()["results"]
    assert len(found) == 2
    assert found[0]["id"] == "pink.png"
    (alike,) = client.post("/search", json={"id": "red.png", "k": 3}).json()["results"]
    assert "red.png" not in {row["id"] for row in alike}
    assert {row["id"] for row in alike} <= {"sub dir/red again.png", "file/file.png",
                                            "grün %2F ü&?#.jpg", "a..b...png"}  # fmt: skip


def test_items_are_found_by_names_of_all_kinds(client, photos):
    for path in photos.rglob("*.*"):
        if path.is_dir():
            continue
        name = path.relative_to(photos).as_posix()
        address = f"/items/{quote(name, safe='')}"
        item = client.get(address)
        assert item.status_code == 200, name
        assert item.json()["id"] == name
        assert item.json()["file"] == f"{address}/file"
        file = client.get(f"{address}/file")
        assert file.content == path.read_bytes()
        assert file.headers["content-type"] in ("image/png", "image/jpeg")
        small = client.get(f"{address}/thumbnail")
        assert Image.open(io.BytesIO(small.content)).format == "JPEG"


def test_the_thumbnail_is_that_of_the_file_as_it_is_now(client, photos):
    path = next(path for path in photos.rglob("*.png") if path.is_file())
    address = f"/items/{quote(path.relative_to(photos).as_posix(), safe='')}/thumbnail"
    kept = path.read_bytes()
    try:
        for colour in ("red", "blue"):
            Image.new("RGB", (40, 40), colour).save(path)
            shown = Image.open(io.BytesIO(client.get(address).content)).convert("RGB")
            expected = ImageColor.getrgb(colour)
            assert np.abs(np.subtract(shown.getpixel((9, 9)), expected)).max() < 16
        path.unlink()
        assert client.get(address).status_code == 404
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "..%2Fsecret.png", "%2e%2e/secret.png", "%2e%2e%2fsecret.png", "/etc/passwd",
     "%2Fetc%2Fpasswd", "red.png%00", "..%252Fsecret.png", "%ff%fe", "sub dir", "nothing"],
)  # fmt: skip
def test_no_path_leads_out_of_the_gallery(client, name):
    for part in ("", "/file", "/thumbnail"):
        answer = client.get(f"/items/{name}{part}")
        assert answer.status_code == 404
        assert set(answer.json()) == {"error"}


def test_about_and_health(client, photos):
    about = client.get("/about").json()
    assert about["accepts"] == ["picture", "text"]
    assert about["gallery"]["n"] == 14
    assert about["gallery"]["kind"] == "picture"
    assert client.get("/health").json() == {"status": "ok", "items": 14}
    figures = client.get("/metrics").text
    assert "crossfit_gallery_items 14.0" in figures
    assert 'crossfit_requests_total{method="GET",route="/health",status="200"}' in figures


def refused(answer, status, *words):
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert "\n" not in body["error"]
    for word in words:
        assert word in body["error"]


def test_what_is_wrong_is_one_sentence(client):
    def post(**body):
        return client.post("/search", json=body)

    refused(post(), 422, "exactly one of")
    refused(post(text="a", id="b"), 422, "text and id")
    refused(post(text=" "), 422, "empty")
    refused(post(text="a", k=0), 422, "k:")
    refused(post(text="a", k=100_000), 422, "1000")
    refused(post(text="a", other=1), 422, "other")
    refused(post(text=5), 422, "text:")
    refused(post(text="a" * 10_001), 422, "10,000")
    refused(post(texts=["a"] * 65), 422, "64")
    refused(post(texts=[]), 422, "got 0")
    refused(post(vector=[1.0]), 422)
    refused(post(vectors=[[1.0], [1.0, 2.0]]), 422, "equal length")
    refused(post(vector=[1e300] * 8), 422, "finite")
    refused(post(id="nothing"), 404, "nothing")
    refused(post(text="a", rerank=5), 422, "one stage")
    refused(client.post("/search", content="{", headers={"content-type": "application/json"}), 400)
    deep = "[" * 100_000
    refused(client.post("/search", content=deep, headers={"content-type": "application/json"}), 400)
    refused(client.post("/search", content="a"), 415, "application/json")
    refused(client.post("/search", files={"file": b"no picture"}), 415, "PNG")
    refused(client.post("/search", files={"other": b"no picture"}), 422, "file")
    refused(client.post("/search", files={"file": b""}), 422, "empty")
    refused(client.post("/search", data={"file": "text"}), 415)
    refused(client.post("/search", files=[("file", b"1"), ("file", b"2")]), 400)
    refused(client.post("/search", files={"file": b"1"}, data={"k": "many"}), 422, "k:")
    refused(client.get("/search"), 405, "POST")
    refused(client.get("/nothing"), 404)


def test_pictures_are_decoded_within_limits(client):
    whole = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    refused(client.post("/search", files={"file": whole[: len(whole) // 2]}), 422, "decoded")
    bomb = png(np.zeros((1, 1), np.uint8))
    # The header of a PNG file states its size; 60,000 × 60,000 pixels would be 10 GB.
    head = bytearray(bomb)
    head[16:24] = (60_000).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(bytes(head[12:29])).to_bytes(4, "big")
    refused(client.post("/search", files={"file": bytes(head)}), 413, "pixels")
    large = png(np.zeros((5_100, 5_000), np.uint8))
    assert len(large) < 200_000
    refused(client.post("/search", files={"file": large}), 413, "25,000,000")
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    refused(client.post("/search", files={"file": svg}), 415)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    refused(client.post("/search", files={"file": postscript}), 415)


@pytest.mark.parametrize("indexed", [False, True])
def test_filters_do_not_show_where_files_are(bundle, photos, index, indexed, tmp_path):
    """Otherwise, comparisons would find out a path letter by letter."""
    from starlette.testclient import TestClient

    from crossfit.serving import build_app

    gallery = index
    if not indexed:
        gallery = tmp_path / "tiles.csv"
        rows = [f"{name},{photos / name}.png" for name in ("red", "blue")]
        gallery.write_text("\n".join(["label,path", *rows]) + "\n")
    client = TestClient(build_app(bundle, gallery), base_url="http://localhost")
    for where in ("path > '/a'", "'tmp' in path", "column('path') is not None", "not path == ''"):
        answer = client.post("/search", json={"text": "a red tile", "where": where})
        assert answer.status_code == 422
        sentence = answer.json()["error"]
        assert "there is no column 'path'" in sentence and str(photos) not in sentence
        assert "path" not in sentence.partition("there are")[2]
    column = "year >= 0" if indexed else "label != ''"
    found = client.post("/search", json={"text": "a red tile", "where": column}).json()
    assert found["results"][0] and str(photos) not in str(found)
