"""`crossfit demo`: an interruption leaves nothing behind."""

import os
import signal
import subprocess
import time


def test_ctrl_c_leaves_no_file_and_says_interrupted(command, tmp_path, home):
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [*command, "demo", "--features", "plain", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CROSSFIT_CACHE": str(home), "PYTHONUNBUFFERED": "1"},
        # A shell's background jobs ignore Ctrl-C and hand that on; a person's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()  # the data are loaded, the work begins
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("*.html"))
