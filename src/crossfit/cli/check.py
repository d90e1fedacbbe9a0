"""``crossfit check``: the conformance checks of methods, extractors and data sets."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent
from typing import Any

import click

from crossfit._text import printable
from crossfit.cli._shared import console, settings_of

__all__ = ["check"]

_STYLES = {"pass": "green", "fail": "bold red", "skip": "yellow", "expected": "cyan"}


EXAMPLES = """\b
Examples:
  crossfit check ridge-map
  crossfit check ridge-map --params alpha=10 -k ragged
"""


@click.command(epilog=EXAMPLES)
@click.argument("names", nargs=-1, required=True)
@click.option(
    "-k", "select", metavar="EXPR",
    help="Run only checks whose names match, as in pytest -k: 'ragged or padding', 'not sklearn'.",
)  # fmt: skip
@click.option(
    "--params", multiple=True, metavar="JSON|KEY=VALUE",
    help="Settings that override the card's test_params: '{\"k\": 3}' or k=3; repeatable.",
)  # fmt: skip
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False),
    help="Folder of the data sets.  [default: files made by the card, else CROSSFIT_DATA]",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print only failures, and one line per name.")
def check(
    names: tuple[str, ...], select: str | None, params: tuple[str, ...], root: str | None,
    quiet: bool,
) -> None:  # fmt: skip
    """Run the conformance checks of installed plugins; the exit code is 1 if a check fails.

    NAMES are names of methods, extractors and data sets, as shown by `crossfit list`.
    """
    from rich.text import Text

    from crossfit import registry
    from crossfit.testing import kit

    given = settings_of(params)
    groups = {name: kit.group_of(name) for name in names}
    for name, group in groups.items():
        registry.load(name, group)  # a wrong name is reported before the first check
    if root is not None and "crossfit.datasets" not in groups.values():
        raise click.UsageError(f"--root is only for data sets, and {names[0]!r} is not a data set")
    screen = console()
    failed = 0
    for name, group in groups.items():
        results = _results(name, group, given, root, select)
        if not quiet:
            screen.print(Text(printable(name), style="bold"))
        for result in results:
            if quiet and result.status != "fail":
                continue
            line = Text.assemble(
                "  ", (f"{result.status:8}", _STYLES[result.status]), " ", result.description
            )
            if result.status == "fail":
                line.append(f" ({result.name})")
            message = result.message.strip()
            if message.startswith("as in "):
                line.append(f": {message}", style="dim")
            elif message:
                line.append(f"\n{indent(message, ' ' * 11)}", style="dim")
            screen.print(line)
        bad = sum(result.status == "fail" for result in results)
        passed = sum(result.status == "pass" for result in results)
        summary = f"{passed} passed, {bad} failed, {len(results) - passed - bad} other"
        screen.print(f"{printable(name)}: {summary}" if quiet else f"  {summary}\n", markup=False)
        failed += bad
    if failed:
        raise SystemExit(1)


def _results(
    name: str, group: str, params: Mapping[str, Any], root: str | None, select: str | None
) -> list[Any]:
    from crossfit.testing import check_dataset, check_extractor, check_method

    if group == "crossfit.datasets":
        return check_dataset(name, params, root=root, select=select)
    run = check_method if group == "crossfit.methods" else check_extractor
    return run(name, params, select=select)
