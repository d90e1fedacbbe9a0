"""``crossfit run``: experiments from files and plugins, with progress and remaining time."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossfit._text import printable
from crossfit.cli._shared import WORKERS, Folder, check_backend, check_new_folder, console

if TYPE_CHECKING:
    from crossfit.experiment import Experiment, RunRecord, Store

__all__ = ["listener_of", "print_results", "run", "run_and_print"]

# Seconds without a line after which a finished trial is printed, where there is no bar.
_SILENCE = 30.0
# Number of different warnings that are printed.
_WARNINGS = 5


EXAMPLES = """\b
Examples:
  crossfit run emoji-plain
  crossfit run mine.yaml --jobs 2 --save-best winner/
  crossfit run mine.yaml --dry-run
"""


@click.command(epilog=EXAMPLES)
@click.argument("experiment")
@click.option(
    "--store", "folder", default="crossfit-runs", show_default=True,
    type=Folder(), help="Folder of the results.",
)  # fmt: skip
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False),
    help="Folder of the data sets.  [default: CROSSFIT_DATA]",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(exists=True),
    help="Your own pairs: a table (CSV, TSV, JSONL, JSON, parquet) with columns such as image and "
    "text, and optionally label, group and split; tar shards; or a folder of pictures and texts.",
)  # fmt: skip
@click.option(
    "--jobs", default=1, show_default=True, help="Number of processes; -1 uses all processors."
)
@WORKERS
@click.option("--seeds", help="Seeds that replace those of the experiment: 0,1,2 or 0-4.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Change a value, such as tuning.trials=5 or methods.CCA.params.reg=0.1; "
              "repeatable.")  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Compute failed cells again.")
@click.option("--force", is_flag=True, help="Compute all cells again, including those done.")
@click.option("--tracker", type=click.Choice(["mlflow", "tensorboard", "wandb"]),
              help="Also send the results to a tracker.")  # fmt: skip
@click.option("--save-best", type=Folder(), metavar="FOLDER",
              help="New folder for a bundle of the method with the best main metric on the test "
              "pairs, fitted again on the training pairs.")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Print what would be computed, without computing it.")  # fmt: skip
def run(
    experiment: str,
    folder: Path,
    root: str | None,
    data: str | None,
    jobs: int,
    backend: str,
    scheduler: str | None,
    seeds: str | None,
    settings: tuple[str, ...],
    retry_failed: bool,
    force: bool,
    tracker: str | None,
    save_best: Path | None,
    dry_run: bool,
) -> None:
    """Run EXPERIMENT, which is the name of an installed experiment or a YAML file.

    Results are written to the store. Cells that it already contains are not computed again, so
    that an interrupted run continues where it stopped, and several machines may share a store.
    """
    from crossfit.experiment.spec import Experiment
    from crossfit.experiment.store import Store

    check_backend(backend, scheduler, jobs)
    if save_best is not None:
        check_new_folder(save_best, "--save-best")
    replaced = {} if seeds is None else {"seeds": _seeds(seeds)}
    own = None if data is None else Path(data).stem
    found = Experiment.find(experiment, settings, own, **replaced)
    if save_best is not None and data is None and len(found.datasets) > 1:
        raise click.UsageError(
            f"--save-best is for experiments on one data set, but this one has "
            f"{len(found.datasets)}"
        )
    store = Store(folder)
    if dry_run:
        from crossfit.experiment.planner import plan

        _print_plan(plan(found, store, root=root, data=data), store, retry_failed, force)
        return
    record = run_and_print(
        found,
        store,
        root=root,
        data=data,
        n_jobs=jobs,
        backend=backend,
        scheduler=scheduler,
        retry_failed=retry_failed,
        force=force,
        tracker=tracker,
    )
    if save_best is not None:
        _save_best(record, save_best, root, data)
    click.echo(f"next: crossfit report {record.name} --store {shlex.quote(str(folder))}")


def _save_best(record: RunRecord, folder: Path, root: str | None, data: str | None) -> None:
    from crossfit.cli._winners import measures_of_cell, save_winner
    from crossfit.datasets import Dataset
    from crossfit.experiment.best import best_cell, refit, task_of
    from crossfit.experiment.data import load_splits

    cell, metric = best_cell(record), record.metrics[0]
    task = task_of(record, cell, root=root, data=data)
    model = refit(record, cell, root=root, data=data)
    loaded = load_splits(task.source, task.identity["dataset"]["revision"])
    whole = loaded.dataset
    seed = "" if cell.note else f" with seed {cell.seed}"
    n = len({cell.label for cell in record.done})
    best = f"the best of {n} by {metric} on the test pairs, " if n > 1 else ""
    notes = None
    if n > 1:
        notes = (
            f"This is the best of {n} methods by {metric} on the same test pairs as the measures "
            "below, which are therefore somewhat better than those on new pairs."
        )
    save_winner(
        model, folder, method=cell.label,
        pairs=Dataset(whole.card, loaded.splits, whole.target_names, whole.revision),
        source=task.source.table, options=task.source.options, features=task.features,
        measures=measures_of_cell(cell), notes=notes,
        settings=dict(cell.chosen), tuning=dict(cell.tuning), seed=cell.seed,
        beside={other.label: measures_of_cell(other) for other in record.done
                if other.label != cell.label},
        chance={str(way): dict(values) for way, values in cell.chance.items()},
        warnings=list(cell.warnings),
    )  # fmt: skip
    click.echo(printable(f"wrote {cell.label}, {best}fitted on the training pairs{seed}, to ")
               + str(folder))  # fmt: skip


def run_and_print(experiment: Experiment, store: Store, **options: Any) -> RunRecord:
    """Run an experiment, show its progress on the screen and print its results.

    Parameters
    ----------
    experiment : Experiment
        The experiment to run.
    store : Store
        Store for the results.
    **options
        Options of `crossfit.experiment.run`.

    Returns
    -------
    RunRecord
        The finished run.

    Raises
    ------
    SystemExit
        If a cell has failed or has no result yet, or if no cell is done.
    """
    from crossfit.experiment import run as run_experiment

    listener = listener_of(experiment.title)
    command = shlex.join(["crossfit", *sys.argv[1:]])
    try:
        record = run_experiment(experiment, store, listener=listener, command=command, **options)
    except KeyboardInterrupt:
        click.echo(
            f"interrupted with {listener.done} of {_cells(listener.todo)} computed in this run; "
            "repeat the command to continue",
            err=True,
        )
        raise
    print_results(record)
    counts = Counter(cell.status for cell in record.cells)
    click.echo(", ".join(f"{n} {status}" for status, n in counts.items()) + f" in {store.folder}")
    for (dataset, split), looks in record.test_looks().items():
        click.echo(f"the split {split!r} of {dataset} has been evaluated {_times(looks)} so far")
    for cell in record.cells:
        if cell.status == "failed":
            failure = f"{cell.label} on {cell.dataset}, seed {cell.seed}: {cell.problem}"
            click.echo(printable(f"failed: {failure}"), err=True)
    for reason in dict.fromkeys(cell.reason for cell in record.cells if cell.status == "skipped"):
        who = [c.label for c in record.cells if c.status == "skipped" and c.reason == reason]
        few = ", ".join(dict.fromkeys(who[:3])) + (f" and {len(who) - 3} more" if who[3:] else "")
        click.echo(printable(f"skipped: {few}: {reason}"), err=True)
    _print_warnings(record.cells)
    if counts["failed"]:
        click.echo(
            f"the tracebacks are in {store.folder / 'cells'}; --retry-failed computes failed cells "
            "again",
            err=True,
        )
        raise SystemExit(1)
    if counts["pending"]:
        click.echo(
            f"pending: {_cells(counts['pending'])} without a result; repeat the command to "
            "continue",
            err=True,
        )
    if counts["pending"] or not counts["done"]:
        raise SystemExit(1)
    return record


def _print_warnings(cells: Sequence[Any]) -> None:
    """Print each warning of the cells once; the report lists them by cell."""
    labels: dict[str, dict[str, None]] = {}
    for cell in cells:
        for text in cell.warnings:
            labels.setdefault(text, {})[cell.label] = None
    for text, who in list(labels.items())[:_WARNINGS]:
        few = ", ".join(list(who)[:3]) + (f" and {len(who) - 3} more" if len(who) > 3 else "")
        words = text.removeprefix("UserWarning: ")
        owner, _, rest = words.partition(": ")
        if rest and all(owner in label.split() for label in who):
            words = rest  # the label names the method already
        click.echo(printable(f"warning: {few}: {words}"), err=True)
    if len(labels) > _WARNINGS:
        click.echo(f"{len(labels) - _WARNINGS} more warnings are in the report", err=True)


def _cells(n: int) -> str:
    return f"{n} cell{'s' * (n != 1)}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _seeds(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise click.UsageError(f"--seeds must have the form 0,1,2 or 0-4, got {text!r}")
        found += range(int(first), int(last or first) + 1)
    return found


def _print_plan(tasks: Sequence[Any], store: Any, retry_failed: bool, force: bool) -> None:
    counts: Counter[str] = Counter()
    for task in tasks:
        cell = task.cell
        status = store.cell(cell.key).status
        if task.skip:
            what = f"would be skipped: {task.skip}"
        elif force:
            what = "to compute"
        elif status == "done":
            what = "cached"
        elif status == "failed" and not retry_failed:
            what = "failed before; --retry-failed computes it again"
        else:
            what = "to compute"
        counts[what.partition(":")[0].partition(";")[0]] += 1
        features = f" ({cell.features})" if cell.features else ""
        note = f" [{cell.note}]" if cell.note else ""
        line = f"{cell.key[:12]}  {cell.dataset}  {cell.label}{features}  seed {cell.seed}{note}  "
        click.echo(printable(f"{line}{what}"))
    words = ", ".join(f"{n} {what}" for what, n in counts.items())
    click.echo(f"{_cells(len(tasks))}: {words}")
    if all(task.skip for task in tasks):
        raise SystemExit(1)


def print_results(record: Any) -> None:
    """Print the means of the finished cells of a run, with chance, as a table."""
    from rich.table import Table
    from rich.text import Text

    done = [cell for cell in record.cells if cell.status == "done"]
    if not done:
        return
    seeds = len({cell.seed for cell in done}) > 1
    several = len({cell.dataset for cell in done}) > 1
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("method", *(["data"] if several else []), *(["seed"] if seeds else [])):
        table.add_column(heading, no_wrap=True)
    table.add_column("direction", no_wrap=True)
    for metric in record.metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for heading in ("95 %", "fit, s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in done:
        for i, direction in enumerate(cell.directions):
            found = cell.results[direction]
            first = found[record.metrics[0]]
            where = [*([cell.dataset] if several else []), *([str(cell.seed)] if seeds else [])]
            fit = cell.timing.get("fit")
            table.add_row(
                *(Text("" if i else printable(part)) for part in (cell.label, *where)),
                Text(printable(direction.label)),
                *(_figure(found[metric]["mean"]) for metric in record.metrics),
                f"{_figure(first['low'])}–{_figure(first['high'])}",
                "" if i or fit is None else f"{fit:.1f}",
            )
    for cell in {cell.dataset: cell for cell in done}.values():
        for i, direction in enumerate(cell.directions):
            by_metric = cell.chance[direction]
            where = [*([cell.dataset] if several else []), *([""] if seeds else [])]
            table.add_row(
                *(Text("" if i else printable(part)) for part in ("chance", *where)),
                Text(printable(direction.label)),
                *(_figure(by_metric.get(metric)) for metric in record.metrics),
            )
    console().print(table, highlight=False)


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


# ---- progress ------------------------------------------------------------------------------------


def listener_of(title: str) -> Any:
    """Return a listener that shows the progress of a run on the screen."""
    from crossfit.experiment.runner import Listener

    class Progress(Listener):
        """A progress bar on a terminal, and one line per cell."""

        def __init__(self) -> None:
            self.todo = self.done = 0
            self._console = console(stderr=True)
            self._bar: Any = None
            self._left: Counter[tuple[str, str]] = Counter()  # cells per method and data set
            self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
            self._begun = self._shown = time.monotonic()

        def begin(self, cells: Sequence[Any], todo: Sequence[Any]) -> None:
            self.todo, self._begun = len(todo), time.monotonic()
            self._left.update(map(_place, todo))
            cached = len({cell.key for cell in cells}) - self.todo
            self._print(f"{title}: {_cells(self.todo)} to compute, {cached} in the store")
            if self._console.is_terminal and todo:
                from rich.progress import (
                    BarColumn,
                    MofNCompleteColumn,
                    Progress,
                    TextColumn,
                    TimeElapsedColumn,
                )

                self._bar = Progress(
                    TextColumn("{task.description}", markup=False), BarColumn(),
                    MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
                    console=self._console, transient=True,
                )  # fmt: skip
                self._task = self._bar.add_task("cells", total=self.todo, left="")
                self._bar.start()

        def started(self, cell: Any, searching: bool) -> None:
            self._shown = time.monotonic()
            seed = "" if cell.note else f", seed {cell.seed}"
            doing = ": settings" if searching else seed
            self._update(description=printable(f"{cell.label}{doing}"))

        def trial(self, cell: Any, done: int, wanted: int) -> None:
            words = f"trial {done} of {wanted}"
            self._update(left=words)
            # In a pipe, a long search shows that it is alive.
            if self._bar is None and time.monotonic() - self._shown > _SILENCE:
                self._shown = time.monotonic()
                self._print(f"  {cell.label}: {words} finished")

        def search(self, cell: Any, outcome: Any, left: int) -> None:
            how = (
                "settings chosen" if outcome.status == "done" else f"no settings: {outcome.message}"
            )
            searches = "1 search" if left == 1 else f"{left} searches"
            self._print(f"  {cell.label}: {how} in {outcome.seconds:.1f} s, {searches} left")
            if not self.done:
                # Several processes compute cells only after all searches.
                self._begun = time.monotonic()
            self._update(left=f"{searches} left" if left else "")

        def finished(self, cell: Any, outcome: Any, left: int) -> None:
            self.done += 1
            place = _place(cell)
            self._left[place] -= 1
            self._seconds[place].append(outcome.seconds)
            remaining = self._remaining()
            seed = "" if cell.note else f", seed {cell.seed}"
            words = f": {outcome.message}" if outcome.message else ""
            self._print(
                f"[{self.done}/{self.todo}] {cell.label} on {cell.dataset}{seed}: "
                f"{outcome.status} in {outcome.seconds:.1f} s{words}"
                + (f", {remaining}" if left and self._bar is None else "")
            )
            self._update(advance=1, left=remaining)

        def waiting(self, left: int) -> None:
            self._update(left=f"another runner computes {_cells(left)}")

        def end(self) -> None:
            if self._bar is not None:
                self._bar.stop()

        def _remaining(self) -> str:
            """Return the time left of the methods of which a cell has been computed."""
            seconds, unknown = 0.0, 0
            for place, n in self._left.items():
                times = self._seconds.get(place)
                if times:
                    seconds += n * sum(times) / len(times)
                else:
                    unknown += n > 0
            spent = sum(map(sum, self._seconds.values()))
            seconds /= max(1.0, spent / max(time.monotonic() - self._begun, 1e-9))
            others = f"{unknown} method{'s' * (unknown != 1)} not begun" if unknown else ""
            known = f"about {_clock(seconds)} left" if seconds or not unknown else ""
            return " and ".join(filter(None, [known, others]))

        def _update(self, **fields: Any) -> None:
            if self._bar is not None:
                self._bar.update(self._task, **fields)

        def _print(self, line: str) -> None:
            self._console.print(printable(line), highlight=False, markup=False)

    return Progress()


def _place(cell: Any) -> tuple[str, str]:
    return cell.dataset, cell.label


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
