"""Bundles on the Hugging Face Hub, or on a server with the same interface (``HF_ENDPOINT``)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crossfit._arguments import validated
from crossfit._warnings import warn
from crossfit.persistence import BundleError, load, save
from crossfit.persistence.bundles import note_commit, read_record
from crossfit.persistence.files import (
    ARRAY_FILE,
    CARD,
    LARGEST_MANIFEST,
    LARGEST_RECORD,
    MANIFEST,
    RECORD,
    has_own_page,
    is_signed,
    lists_record,
    matches,
)

__all__ = ["push_to_hub"]

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BRANCH = re.compile(r"\w[\w./-]*", re.ASCII)
_LARGEST_CARD = 2**22
_UNREACHABLE = "the hub cannot be reached; only a commit that is in the cache is read without it"


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

    Only the files of the bundle are uploaded: manifest, arrays, record and model card. A repository
    or branch that does not exist is created; files of an earlier bundle in it are deleted in the
    same commit. A ``README.md`` there that crossfit did not write is kept.

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
        If the server rejects the upload or cannot be reached. The message states what has been
        created by then.
    ImportError
        If the package of the extra ``hub`` is not installed.

    Warns
    -----
    UserWarning
        If it is interrupted after something has been created; and if a page is kept.

    See Also
    --------
    load : Load it from there.
    """
    name, inside = parsed(repo if is_address(repo) else f"hf://{repo}")
    if inside is not None:
        raise ValueError(f"repo must be 'user/name' without a revision, got {repo!r}")
    if revision is not None and not _BRANCH.fullmatch(revision):
        raise ValueError(f"revision must be the name of a branch, got {revision!r}")
    if not message.strip():
        raise ValueError("message must not be empty")
    hub = _hub()
    with tempfile.TemporaryDirectory() as made:
        if isinstance(model, str | os.PathLike):
            folder = Path(model)
            load(folder)
        else:
            folder = save(model, Path(made) / "bundle")
        read_record(folder, str(folder))
        own = {MANIFEST, CARD, *([RECORD] if lists_record(folder) else [])}
        files = [path for path in sorted(folder.iterdir())
                 if path.name in own or ARRAY_FILE.fullmatch(path.name)]  # fmt: skip
        state: list[str] = []
        try:
            with _in_one_sentence(f"hf://{name}"):
                commit = _pushed(hub.HfApi(token=token), name, revision, private, files, message,
                                 state)  # fmt: skip
        except OSError as error:
            raise OSError("; ".join([str(error), *state])) from None
        except KeyboardInterrupt:
            if state:
                warn("; ".join(state))
            raise
    return f"hf://{name}@{commit}"


def _pushed(
    api: Any,
    name: str,
    branch: str | None,
    private: bool | None,
    files: list[Path],
    message: str,
    state: list[str],
) -> str:
    """Upload files in one commit; `state` holds what is there if it does not come to an end."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    if not api.repo_exists(name):
        api.create_repo(name, exist_ok=True, private=private)
        state.append(f"the repository {name} was created")
    if branch is not None and branch not in {ref.name for ref in api.list_repo_refs(name).branches}:
        api.create_branch(name, branch=branch, exist_ok=True)
        state.append(f"the branch {branch} was created")
    present = api.list_repo_files(name, revision=branch)
    kept = False
    if CARD in present:
        head = api.model_info(name, revision=branch).sha
        page = api.hf_hub_download(name, CARD, revision=head)
        kept = has_own_page(Path(page).resolve())  # the cache holds links to blobs
    if kept:
        files = [path for path in files if path.name != CARD]
    added = {path.name for path in files}
    operations: list[Any] = [
        CommitOperationDelete(old)
        for old in present
        if (ARRAY_FILE.fullmatch(old) or old == RECORD) and old not in added
    ]
    operations += [
        CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path) for path in files
    ]
    # Large files first: until the commit, they are not part of the repository.
    api.preupload_lfs_files(name, [each for each in operations if hasattr(each, "path_or_fileobj")],
                            revision=branch)  # fmt: skip
    state.append("the commit may have been made; push again to obtain its address")
    try:
        made = api.create_commit(name, operations, commit_message=message, revision=branch)
    except HfHubHTTPError:  # the server has answered
        state.pop()
        raise
    if kept:
        warn(f"{CARD} of hf://{name} was not written by crossfit and is kept; delete it there and "
             "push again to have the model card")  # fmt: skip
    return str(made.oid)


@contextlib.contextmanager
def bundle_from_hub(
    address: str, *, max_bytes: int, pinned: bool = False, token: str | None = None,
    whole: bool = False,
) -> Iterator[tuple[Path, str]]:  # fmt: skip
    """Yield a folder with the files of a bundle, and its pinned address.

    The manifest is downloaded first, then the array file that it names; if `whole`, the record
    that it lists and the model card too; nothing else is. Sizes are compared with the limits before
    a download. Files are kept in the cache of huggingface_hub, so that a pinned revision is read
    from it without a connection.
    """
    name, revision = parsed(address)
    if pinned and not (revision and _COMMIT.fullmatch(revision)):
        raise BundleError(
            f"{address} is not pinned; add the 40 digits of a commit: hf://{name}@<commit>"
        )
    hub = _hub()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "bundle"
        folder.mkdir()
        with _in_one_sentence(address):
            commit = revision
            if not (revision and _COMMIT.fullmatch(revision)):
                commit = _resolved(hub, name, revision, token)

            def fetch(file: str, limit: int, sound: Callable[[Path], bool]) -> Path:
                return _fetched(hub, name, str(commit), file, limit, sound, folder, token)

            manifest = json.loads(fetch(MANIFEST, LARGEST_MANIFEST, is_signed).read_bytes())
            listed = manifest.get("arrays") if isinstance(manifest, dict) else None
            arrays = listed.get("file") if isinstance(listed, dict) else None
            if not isinstance(arrays, str) or not ARRAY_FILE.fullmatch(arrays):
                raise BundleError(f"{arrays!r} is not the name of an array file")
            fetch(arrays, max_bytes, lambda path: matches(path, listed))
            if whole and "record" in manifest:
                fetch(RECORD, LARGEST_RECORD, lambda path: matches(path, manifest["record"]))
            if whole:
                with contextlib.suppress(Exception):  # a page for people, which may be missing
                    fetch(CARD, _LARGEST_CARD, lambda path: True)
        yield folder, f"hf://{name}@{commit}"


def _fetched(
    hub: Any,
    name: str,
    commit: str,
    file: str,
    limit: int,
    sound: Callable[[Path], bool],
    folder: Path,
    token: str | None,
) -> Path:
    """Return a file of a commit in a folder, downloaded unless the cache has it undamaged."""
    held = hub.try_to_load_from_cache(name, file, revision=commit)
    in_cache = isinstance(held, str)
    # Without a connection a damaged file is kept, so that the error is that of its hash.
    if in_cache and (hub.constants.HF_HUB_OFFLINE or sound(Path(held).resolve())):
        found = Path(held)
    else:
        url = hub.hf_hub_url(name, file, revision=commit)
        about = hub.get_hf_file_metadata(url, token=token)
        if about.commit_hash != commit:
            raise BundleError(f"the server answers with another commit for {file}")
        if about.size is None or about.size > limit:
            raise BundleError(f"{file} takes {about.size} bytes, more than the limit of {limit}")
        found = Path(
            hub.hf_hub_download(name, file, revision=commit, token=token, force_download=in_cache)
        )
    if found.stat().st_size > limit:
        raise BundleError(f"{file} takes more than the limit of {limit} bytes")
    # A copy by link: the cache holds links to blobs, which `load` would reject.
    real, target = found.resolve(), folder / file
    try:
        os.link(real, target)
    except OSError:
        target.write_bytes(real.read_bytes())
    return target


def pinned(address: str, token: str | None = None) -> str:
    """Return an address with the commit that it stands for at present, and warn if it had none."""
    name, revision = parsed(address)
    if revision and _COMMIT.fullmatch(revision):
        return address
    with _in_one_sentence(address):
        found = f"hf://{name}@{_resolved(_hub(), name, revision, token)}"
    note_commit(address, found)
    return found


def is_address(place: Any) -> bool:
    """Return True if a place is an address on the hub, well-formed or not."""
    return isinstance(place, str) and place.startswith("hf://")


def parsed(address: str) -> tuple[str, str | None]:
    """Return the name of the repository in an address, and its revision if it has one.

    Raises
    ------
    BundleError
        If it is not an address.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or ".." in address:
        raise BundleError(f"expected an address such as hf://user/name@revision, got {address!r}")
    return found[1], found[2]


def check_installed() -> None:
    """Raise an ImportError that names the extra if huggingface_hub is not installed."""
    _hub()


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
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


@contextlib.contextmanager
def _in_one_sentence(address: str) -> Iterator[None]:
    """Convert the errors of the client, which may quote headers, into one sentence."""
    try:
        yield
    except (BundleError, FileExistsError):
        raise
    except Exception as error:
        raise OSError(f"{address}: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    """Return what an error of the client stands for."""
    from huggingface_hub import errors

    known = (
        (errors.OfflineModeIsEnabled, "it is not in the cache, and HF_HUB_OFFLINE is set"),
        (errors.LocalEntryNotFoundError, _UNREACHABLE),
        (errors.GatedRepoError, "the account of the token has no access to the repository"),
        (errors.RepositoryNotFoundError, "there is no such repository, or it is private and not "
         "that of the token in HF_TOKEN"),
        (errors.RevisionNotFoundError, "the repository has no such revision"),
        (errors.EntryNotFoundError, "the repository has no bundle of crossfit at this revision"),
    )  # fmt: skip
    for kind, words in known:
        if isinstance(error, kind):
            return words
    text = re.sub(r"For more information check: \S+", "", str(error))
    reason = re.sub(r"hf_\w+|Bearer \S+", "***", " ".join(text.split())[:200])
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the server answered with status {status}: HF_TOKEN must be a token that may do it"
    if status:
        return f"the server answered with status {status}: {reason}"
    # Of httpx, under whichever name the client imports it.
    if any(cls.__name__ == "TransportError" for cls in type(error).__mro__):
        return f"{_UNREACHABLE} ({reason})"
    return f"{type(error).__name__}: {reason}"
