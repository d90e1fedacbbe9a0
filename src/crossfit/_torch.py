"""Isolation of networks from the process-wide settings of torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._threads import SMALL

__all__ = ["few_torch_threads", "isolated"]


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Run torch and NumPy with their default settings inside the block.

    The defaults are float32 on the CPU, full float32 products, gradients, no autocast, no inference
    mode, and NumPy's warnings. Code inside the block may change each of them. The user's setting of
    deterministic algorithms is kept: it changes no result, and only rejects operations that could.
    """
    import torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(**NUMPY_DEFAULTS))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # These belong to the process, so they are not touched if they have their defaults.
        if torch.get_default_dtype() != torch.float32:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.get_float32_matmul_precision() != "highest":
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        yield


@contextlib.contextmanager
def few_torch_threads(operations: float) -> Iterator[None]:
    """Run torch on one thread inside the block, if its work is small.

    See `crossfit._threads`: a batch consists of hundreds of operations, and after each of them all
    threads wait for the last. On two cores, two concurrent fits of a small network took 190 s with
    two threads each and 15 s with one; a single fit took 2.1 and 2.5 s.

    Parameters
    ----------
    operations : float
        Number of operations of one batch; above `SMALL`, nothing changes.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1 or not operations <= SMALL:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
