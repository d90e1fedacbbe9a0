"""The environment of a cell: versions, platform, threads and memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

__all__ = ["environment", "peak_memory"]


def peak_memory() -> float:
    """Return the peak memory of this process in MiB."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def environment(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of Python and the libraries in use, the platform and the threads.

    Parameters
    ----------
    method : mapping
        ``distribution`` and ``version`` of the method, and ``members`` if it holds others.
    """
    import crossfit

    packages = {"crossfit-retrieval": crossfit.__version__}
    packages |= _distributions(method)
    for module, name in _WATCHED.items():
        if module in sys.modules:
            packages[name] = _version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "threads": _threads(sys.modules.get("torch")),
        "processors": os.cpu_count(),
    }


def _distributions(method: Mapping[str, Any]) -> dict[str, str]:
    found = {method["distribution"]: method["version"]}
    for member in (method.get("members") or {}).values():
        found |= _distributions(member)
    return found


@cache
def _version(name: str) -> str:
    return importlib.metadata.version(name)


_WATCHED = {
    "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "torch": "torch",
    "torchvision": "torchvision", "skorch": "skorch", "optuna": "optuna", "gensim": "gensim",
    "onnxruntime": "onnxruntime", "librosa": "librosa",
}  # fmt: skip


@cache
def _threads(torch: Any) -> int:
    import threadpoolctl

    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return max([*pools, *([torch.get_num_threads()] if torch else [])], default=1)
