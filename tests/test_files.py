import errno
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from crossfit._files import reserve, room_for, whole_file
from crossfit.similarities import write_scores
from crossfit.subspace import CCA


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of one mebibyte, if that is allowed."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    return rng.normal(size=(600, 4)), rng.normal(size=(600, 5))


def test_scores_on_a_full_disk_are_one_sentence_and_leave_nothing(small_disk, pairs):
    cca = CCA(n_components=2).fit(*pairs)
    with pytest.raises(OSError) as raised:
        cca.similarity(*pairs, out=small_disk / "s.npy")
    assert raised.value.errno == errno.ENOSPC
    assert str(raised.value) == (
        f"cannot write scores of shape (600, 600) (1,440,000 bytes) to "
        f"'{small_disk / 's.npy'}': there is no space left on the disk"
    )
    assert list(small_disk.iterdir()) == []
    # A file that fits is written; until then the earlier one remains.
    small = [part[:100] for part in pairs]
    np.testing.assert_array_equal(
        cca.similarity(*small, out=small_disk / "s.npy"), cca.similarity(*small)
    )
    with pytest.raises(OSError, match="no space left"):
        cca.similarity(*pairs, out=small_disk / "s.npy")
    np.testing.assert_array_equal(np.load(small_disk / "s.npy"), cca.similarity(*small))
    assert [path.name for path in small_disk.iterdir()] == ["s.npy"]


def test_room_is_asked_for_before_anything_is_scored(small_disk):
    def fill(scores):
        raise AssertionError("scored")

    with pytest.raises(OSError, match="no space left"):
        write_scores(fill, (1000, 1000), small_disk / "s.npy")


@pytest.mark.parametrize("fallocate", [True, False], ids=["reserved", "zeros"])
def test_a_file_larger_than_allowed(tmp_path, fallocate):
    # With this limit, a memory map that cannot be written would kill the process by a signal.
    pytest.importorskip("resource")
    program = f"""
        import os, resource
        import numpy as np
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        if not {fallocate} and hasattr(os, "posix_fallocate"):
            del os.posix_fallocate
        from crossfit.similarities import write_scores
        assert write_scores(lambda scores: scores.fill(1), (100, 100), "small.npy").sum() == 1e4
        try:
            write_scores(lambda scores: scores.fill(1), (400, 400), "s.npy")
        except OSError as error:
            print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "scores of shape (400, 400) (640,000 bytes)" in done.stdout
    assert "larger than may be written here" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["small.npy"]


def test_zeros_are_written_where_nothing_can_be_reserved(tmp_path, monkeypatch):
    def refuse(descriptor, start, size):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with open(tmp_path / "f", "wb") as stream:
        stream.write(b"head")
        reserve(stream, 3_000_000)
    content = (tmp_path / "f").read_bytes()
    assert content == b"head" + bytes(3_000_000 - 4)
    assert os.stat(tmp_path / "f").st_blocks * 512 >= 3_000_000


def test_a_stream_on_a_full_device():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with (
        pytest.raises(OSError, match="cannot write a text to '/dev/full': there is no space left"),
        room_for("a text", "/dev/full"),
        open("/dev/full", "w") as stream,
    ):
        stream.write("a")


def test_an_interrupted_draft_goes_and_its_name_keeps_what_it_had(tmp_path):
    path = tmp_path / "f"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_file(path, "a text") as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ZeroDivisionError), whole_file(path, "a text"):
        1 / 0
    with whole_file(path, "a text") as draft:
        draft.write_text("after")
    assert path.read_text() == "after"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
