"""``python -m crossfit``: the command line."""

from crossfit.cli import main

if __name__ == "__main__":
    main()
