"""``crossfit push``: a winner or another bundle, uploaded to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from crossfit.cli._shared import prepare_hub

__all__ = ["push"]

EXAMPLES = """\b
Examples:
  crossfit push winner/ user/shoes
  crossfit push winner/ user/shoes --private --message "with 20 trials"
  crossfit push winner/ user/shoes --branch candidate
  crossfit search hf://user/shoes@COMMIT "a red shoe" --gallery photos/
"""


@click.command(epilog=EXAMPLES)
@click.argument("winner", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="If the repository is created, only you can read it.")
@click.option("--branch", "--revision", "branch", metavar="NAME",
              help="Branch, created if it does not exist.  [default: main]")  # fmt: skip
@click.option("--message", default="A crossfit bundle", show_default=True,
              help="Message of the commit.")  # fmt: skip
def push(winner: Path, repository: str, private: bool, branch: str | None, message: str) -> None:
    """Upload the bundle in the folder WINNER to the Hugging Face Hub.

    WINNER is the folder of `crossfit fit --save`, `crossfit tune --save`, `crossfit run
    --save-best` or crossfit.save. It is loaded first to check it, and only its model, record and
    card are uploaded, in one commit. The token of the account is that of the environment
    variable HF_TOKEN or of a login, and HF_ENDPOINT names another server. What is printed is the
    address of this commit, which every command takes in place of the folder.
    """
    from crossfit.hub import push_to_hub
    from crossfit.winners import is_winner

    if not is_winner(winner):
        raise FileNotFoundError(
            f"{str(winner)!r} is not a bundle, which crossfit fit --save and crossfit.save write"
        )
    prepare_hub()
    click.echo(
        push_to_hub(winner, repository, revision=branch, private=private or None, message=message)
    )
