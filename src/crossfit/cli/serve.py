"""``crossfit serve``: search over HTTP."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Any

import click

from crossfit._suggest import did_you_mean
from crossfit.cli._shared import Bundle, name_values

__all__ = ["serve", "serve_gallery"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


EXAMPLES = """\b
Examples:
  crossfit serve winner/ --gallery photos/
  crossfit serve winner/ --gallery photos.index --port 8080
  crossfit serve hf://user/name@COMMIT --gallery photos.index
  CROSSFIT_TOKEN=secret crossfit serve winner/ --gallery photos.index --host 0.0.0.0
"""


@click.command(epilog=EXAMPLES)
@click.argument("bundle", type=Bundle(), metavar="BUNDLE")
@click.option(
    "--gallery",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="What is searched: an index, a folder of pictures or sounds, or a table.",
)
@click.option("--view", help="The view of the gallery; by default the only one of its kind.")
@click.option(
    "--rerank",
    type=Bundle(),
    metavar="BUNDLE",
    help="A second model, which ranks the best items of the first again.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; any but this machine's own requires a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    help="Port; 0 for any free one.",
)
@click.option(
    "--token",
    envvar="CROSSFIT_TOKEN",
    show_envvar=True,
    help="What requests must have in the header Authorization: Bearer.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Further name of this service in the header Host; repeatable.",
)
@click.option(
    "--limit",
    "changed",
    multiple=True,
    metavar="NAME=VALUE",
    help="A limit of requests, such as body_bytes=20000000 or seconds=60; repeatable.",
)
def serve(
    bundle: Path | str,
    gallery: Path,
    view: str | None,
    rerank: Path | str | None,
    host: str,
    port: int,
    token: str | None,
    names: tuple[str, ...],
    changed: tuple[str, ...],
) -> None:
    """Serve search with the model in BUNDLE over HTTP, with a page for people.

    BUNDLE is a folder of `crossfit fit --save`, or its address hf://user/name@revision on the
    Hugging Face Hub. Ctrl-C stops it.
    """
    if token is not None:
        _check_token(token)
    elif host not in _LOOPBACK:
        raise click.UsageError(
            f"--host {host} can be reached from other machines; set a token in the environment "
            "variable CROSSFIT_TOKEN, or with --token"
        )
    from crossfit.serving.start import check_installed

    check_installed("crossfit.serving.server")
    from crossfit.serving import server

    limits = _limits(changed)
    with server.bind(host, port) as listener:
        serve_gallery(
            listener, bundle, gallery, view=view, rerank=rerank, limits=limits, token=token,
            hosts=names,
        )  # fmt: skip


def serve_gallery(
    listener: Any,
    bundle: Path | str,
    gallery: Path,
    *,
    limits: Any,
    show: bool = False,
    **options: Any,
) -> None:
    """Load a model and a gallery, print the address and serve until a signal comes.

    Parameters
    ----------
    listener : socket
        See `crossfit.serving.server.bind`.
    bundle, gallery, limits, options
        See `crossfit.serving.build_app`.
    show : bool, default=False
        Whether the browser shows the page.
    """
    from crossfit.serving import server
    from crossfit.serving.start import build_app

    click.echo(f"loading {bundle} and {gallery}", err=True)
    app = build_app(bundle, gallery, limits=limits, **options)
    address, number = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    url = f"http://{shown}:{number}/"
    click.echo(f"{url} is ready; Ctrl-C stops it")
    if show:
        # A browser in the terminal would return only at its end.
        threading.Thread(target=_open, args=(url,), daemon=True).start()
    server.serve(app, listener, limits)


def _open(url: str) -> None:
    if not webbrowser.open(url):
        click.echo("there is no browser to show the page in", err=True)


def _limits(changed: tuple[str, ...]) -> Any:
    from dataclasses import fields

    from crossfit.serving.limits import Limits

    given = name_values(changed, "--limit")
    known = [field.name for field in fields(Limits)]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"; they are {', '.join(known)}"
            raise click.UsageError(f"--limit: there is no limit {name!r}{hint}")
    return Limits(**given)


def _check_token(token: str) -> None:
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError(
            "--token must have at least 16 ASCII characters without spaces; for instance, the "
            "output of: openssl rand -hex 16"
        )
