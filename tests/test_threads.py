"""Small linear algebra runs on one thread, and the number of threads is as before afterwards."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from threadpoolctl import OpenBLASController, threadpool_limits

from crossfit._threads import SMALL, _blas, few_threads
from crossfit.subspace import CCA, KCCA


def blas():
    # Only the libraries of NumPy and SciPy: other tests load packages with their own.
    return {library["num_threads"] for library in _blas().info()}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        if blas() != {2}:
            pytest.skip("BLAS of one thread")
        yield


def test_small_work_alone_is_limited():
    with few_threads(SMALL):
        assert blas() == {1}
    assert blas() == {2}
    for large in (SMALL * 1.01, float("inf"), float("nan")):
        with few_threads(large):
            assert blas() == {2}


def test_the_number_of_threads_comes_back_after_an_error():
    with pytest.raises(KeyboardInterrupt), few_threads(1):
        raise KeyboardInterrupt
    assert blas() == {2}


def test_it_is_never_raised():
    with threadpool_limits(1, user_api="blas"):
        with few_threads(1):
            assert blas() == {1}
        assert blas() == {1}


def test_threads_that_limit_it_at_a_time_leave_it_as_it_was():
    # The limits of the fixture belong to this thread, and other threads cannot change them.
    OpenBLASController.clear_controlling_thread(force=True)
    for _ in range(5):
        barrier = threading.Barrier(4)

        def work(seconds, barrier=barrier):
            barrier.wait(10)
            for _ in range(20):
                with few_threads(1):
                    time.sleep(seconds)

        threads = [threading.Thread(target=work, args=(i / 1e3,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blas() == {2}


def test_small_fits_are_limited(monkeypatch, planted):
    views, _ = planted(n=60)
    for cls in (CCA, KCCA):
        seen = []
        fit = cls._fit
        monkeypatch.setattr(
            cls, "_fit", lambda *given, fit=fit, seen=seen: (seen.append(blas()), fit(*given))[1]
        )
        cls(2).fit(views)
        assert seen == [{1}] and blas() == {2}


def test_what_is_small():
    cca = CCA()
    cca.n_features_in_ = {"image": 1280, "text": 384}
    assert cca._operations(1149) <= SMALL < cca._operations(10_000)
    assert KCCA()._operations(1149) <= SMALL < KCCA()._operations(5000)


def test_scores_do_not_depend_on_it(planted):
    views, _ = planted(n=60)
    alone = CCA(2).fit(views)
    with few_threads(1):
        np.testing.assert_array_equal(CCA(2).fit(views).similarity(views), alone.similarity(views))


def test_importing_it_is_cheap():
    code = (
        "import sys, crossfit._threads; "
        "print([m for m in ('numpy', 'scipy', 'threadpoolctl') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]", out.stdout
