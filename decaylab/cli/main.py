"""The command line: results go to standard output, progress and notes to standard error.

Bad input is one line and exit 2.
"""

from __future__ import annotations

import sys

from decaylab.cli import commands, pages
from decaylab.cli.output import typed
from decaylab.cli.registering import Stopped, app
from decaylab.errors import UserError

__all__ = ["commands", "main", "pages"]

INTERRUPTED = 130  # the exit code of Ctrl-C


def main(arguments: list[str] | None = None) -> None:
    """The entry point: turns a `UserError` into one line and exit 2, Ctrl-C into exit 130."""
    try:
        words = sys.argv[1:] if arguments is None else arguments
        code = app(args=words or ["--help"], prog_name="decaylab", standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2)
    except Stopped as stopped:
        _fail(f"interrupted; {stopped}. To resume: {typed()}", INTERRUPTED)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        # A usage error of click, which typer may carry inside itself: known by what it can do, not
        # by its class.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), 2)
    else:
        if code == INTERRUPTED:  # how typer hands on Ctrl-C
            _fail("interrupted", INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"decaylab: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
