"""Bundles on the Hugging Face Hub, or on a server with the same interface (``HF_ENDPOINT``)."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossfit._arguments import validated
from crossfit.persistence import (
    ARRAY_FILE,
    CARD,
    LARGEST_MANIFEST,
    MANIFEST,
    BundleError,
    load,
    save,
)

__all__ = ["push_to_hub"]

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@validated(
    repo=[str], revision=[str, None], private=["boolean", None], token=[str, None], message=[str],
)  # fmt: skip
def push_to_hub(
    model: Any,
    repo: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str = "A crossfit bundle",
) -> str:
    """Upload a bundle to the Hugging Face Hub.

    Only the files of the bundle are uploaded: manifest, arrays and model card. A repository that
    does not exist is created; arrays of an earlier bundle in it are deleted in the same commit.

    Parameters
    ----------
    model : estimator or path-like
        A model, or the folder of a bundle, which is loaded first to check it.
    repo : str
        ``"user/name"``, also as ``"hf://user/name"``.
    revision : str, optional
        Branch, by default the main one.
    private : bool, optional
        Visibility of a repository that is created.
    token : str, optional
        Access token, by default the one of ``huggingface-cli login`` or ``HF_TOKEN``.
    message : str, default="A crossfit bundle"
        Message of the commit.

    Returns
    -------
    str
        The pinned address, ``hf://user/name@<commit>``, for `crossfit.load`.

    Raises
    ------
    ValueError
        If `repo` is not a name, or the bundle is damaged.
    OSError
        If the server rejects the upload or cannot be reached.
    ImportError
        If the package of the extra ``hub`` is not installed.

    See Also
    --------
    load : Load it from there.
    """
    name, inside = _parsed(repo if repo.startswith("hf://") else f"hf://{repo}")
    if inside is not None:
        raise ValueError(f"repo must be 'user/name' without a revision, got {repo!r}")
    hub = _hub()
    with tempfile.TemporaryDirectory() as made:
        if isinstance(model, str | os.PathLike):
            folder = Path(model)
            load(folder)
        else:
            folder = save(model, Path(made) / "bundle")
        files = [path for path in sorted(folder.iterdir())
                 if path.name in (MANIFEST, CARD) or ARRAY_FILE.fullmatch(path.name)]  # fmt: skip
        with _in_one_sentence(f"hf://{name}"):
            api = hub.HfApi(token=token)
            api.create_repo(name, exist_ok=True, private=private)
            present = api.list_repo_files(name, revision=revision)
            own = {path.name for path in files}
            operations: list[Any] = [
                hub.CommitOperationDelete(old)
                for old in present
                if ARRAY_FILE.fullmatch(old) and old not in own
            ]
            operations += [
                hub.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path)
                for path in files
            ]
            commit = api.create_commit(
                name, operations, commit_message=message, revision=revision
            ).oid
    return f"hf://{name}@{commit}"


@contextlib.contextmanager
def bundle_from_hub(
    address: str, *, max_bytes: int, pinned: bool = False, token: str | None = None
) -> Iterator[tuple[Path, str]]:
    """Yield a folder with the files of a bundle, and its pinned address.

    The manifest is downloaded first, then the array file that it names; nothing else is. Sizes
    are compared with the limits before a download. Files are kept in the cache of
    huggingface_hub, so that a pinned revision is read from it without a connection.
    """
    name, revision = _parsed(address)
    if pinned and not (revision and _COMMIT.fullmatch(revision)):
        raise BundleError(
            f"{address} is not pinned; add the 40 digits of a commit: hf://{name}@<commit>"
        )
    hub = _hub()
    with _in_one_sentence(address), tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "bundle"
        folder.mkdir()
        commit = revision
        if not (revision and _COMMIT.fullmatch(revision)):
            commit = _resolved(hub, name, revision, token)

        def fetch(file: str, limit: int) -> Path:
            found = _cached(hub, name, file, commit)
            if found is None:
                url = hub.hf_hub_url(name, file, revision=commit)
                about = hub.get_hf_file_metadata(url, token=token)
                if about.commit_hash != commit:
                    raise BundleError(f"the server answers with another commit for {file}")
                if about.size is None or about.size > limit:
                    raise BundleError(
                        f"{file} takes {about.size} bytes, more than the limit of {limit}"
                    )
                found = Path(hub.hf_hub_download(name, file, revision=commit, token=token))
            if found.stat().st_size > limit:
                raise BundleError(f"{file} takes more than the limit of {limit} bytes")
            # A copy by link: the cache holds links to blobs, which `load` would reject.
            real, target = found.resolve(), folder / file
            try:
                os.link(real, target)
            except OSError:
                target.write_bytes(real.read_bytes())
            return target

        import json

        manifest = json.loads(fetch(MANIFEST, LARGEST_MANIFEST).read_bytes())
        listed = manifest.get("arrays") if isinstance(manifest, dict) else None
        arrays = listed.get("file") if isinstance(listed, dict) else None
        if not isinstance(arrays, str) or not ARRAY_FILE.fullmatch(arrays):
            raise BundleError(f"{arrays!r} is not the name of an array file")
        fetch(arrays, max_bytes)
        yield folder, f"hf://{name}@{commit}"


def _parsed(address: str) -> tuple[str, str | None]:
    found = _ADDRESS.fullmatch(address)
    if found is None or ".." in address:
        raise BundleError(f"expected an address such as hf://user/name@revision, got {address!r}")
    return found[1], found[2]


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "models on the hub need huggingface_hub: pip install 'crossfit-retrieval[hub]'"
        ) from error
    return huggingface_hub


def _resolved(hub: Any, name: str, revision: str | None, token: str | None) -> str:
    """Return the commit of a branch or tag; without a connection, the one in the cache."""
    try:
        commit = hub.HfApi(token=token).model_info(name, revision=revision).sha
    except Exception:
        from huggingface_hub import constants

        refs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs"
        known = refs / (revision or "main")
        if not constants.HF_HUB_OFFLINE or not known.is_file():
            raise
        commit = known.read_text(encoding="ascii").strip()
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise BundleError("the server does not answer with a commit")
    return commit


def _cached(hub: Any, name: str, file: str, commit: Any) -> Path | None:
    found = hub.try_to_load_from_cache(name, file, revision=commit)
    return Path(found) if isinstance(found, str) else None


@contextlib.contextmanager
def _in_one_sentence(address: str) -> Iterator[None]:
    """Convert the errors of the client, which may quote headers, into one sentence."""
    try:
        yield
    except (BundleError, FileExistsError):
        raise
    except Exception as error:
        kind = type(error).__name__
        status = getattr(getattr(error, "response", None), "status_code", None)
        words = f"the server answered with status {status}" if status else kind
        reason = " ".join(str(error).split())[:200]
        reason = re.sub(r"hf_\w+|Bearer \S+", "***", reason)
        raise OSError(f"{address}: {words}: {reason}") from None
