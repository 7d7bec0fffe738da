"""The `mygpt` command: its subcommands, and what becomes of every error."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from mygpt_cli.base.errors import MygptError, ResourceError, UsageError, is_out_of_memory
from mygpt_cli.cli.export import EXAMPLES as EXPORT
from mygpt_cli.cli.export import export
from mygpt_cli.cli.help import Commands, teaching
from mygpt_cli.cli.inspect import EXAMPLES as INSPECT
from mygpt_cli.cli.inspect import inspect
from mygpt_cli.cli.interruption import Interruption, Terminated
from mygpt_cli.cli.runs import EXAMPLES as RUNS
from mygpt_cli.cli.runs import runs
from mygpt_cli.cli.sample import EXAMPLES as SAMPLE
from mygpt_cli.cli.sample import sample
from mygpt_cli.cli.train import EXAMPLES as TRAIN
from mygpt_cli.cli.train import ORDER, SETTINGS_NOTE, train
from mygpt_cli.ui.console import prepare_streams, silence
from mygpt_cli.ui.errors import print_error, print_version

INTERRUPTED = 130


def build_app() -> typer.Typer:
    """Return the Typer application."""
    app = typer.Typer(
        name="mygpt",
        help="Train a GPT on any text, let it write, and see how it chooses each token.",
        cls=Commands,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command(cls=teaching(TRAIN, ORDER, SETTINGS_NOTE))(train)
    more = {"allow_extra_args": True}  # these say themselves what is wrong with one
    app.command(cls=teaching(SAMPLE), context_settings=more)(sample)
    app.command(cls=teaching(INSPECT), context_settings=more)(inspect)
    app.command(cls=teaching(RUNS))(runs)
    app.command(cls=teaching(EXPORT))(export)
    return app


def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version.", is_eager=True, callback=print_version, metavar=""
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code.

    0 done, 1 runtime fault, 2 usage, 3 checkpoint unusable, 4 text unusable, 5 resource, 6 diverged,
    129, 130 and 143 hung up, interrupted, terminated.
    """
    debug = bool(os.environ.get("MYGPT_DEBUG"))
    prepare_streams()
    try:
        with Interruption(noted=0):
            code = build_app()(
                args=list(arguments), prog_name="mygpt", standalone_mode=False, obj=list(arguments)
            )
        if sys.stdout is not None:
            sys.stdout.flush()
    except MygptError as error:
        if debug:
            traceback.print_exc()
        print_error(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        silence(sys.stdout)  # the reader has gone, as in `mygpt sample | head -1`
        return 0
    except SystemExit:
        return 0  # Typer's own way out of a broken pipe
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated as termination:
        return termination.exit_code
    except Exception as error:
        if debug:
            raise
        if shortage := _shortage(error):
            print_error(*shortage)
            return ResourceError.exit_code
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            print_error(
                "a file name is longer than the file system allows",
                "to give a text instead of a file, use --prompt",
            )
            return UsageError.exit_code
        if isinstance(error, PermissionError) and error.filename is not None:
            told = f"{error.filename}: permission denied"
            print_error(told, "check its owner and its permissions")
            return UsageError.exit_code
        # Typer's own errors know how to put themselves; all else is a fault of mygpt.
        if hasattr(error, "format_message"):
            print_error(error.format_message(), _where_flags_are(error))
            return 2
        print_error(
            f"{type(error).__name__}: {error}",
            "this is a bug in mygpt; run again with MYGPT_DEBUG=1 to see where",
        )
        return 1
    return code if isinstance(code, int) else 0


def _where_flags_are(error: Exception) -> str:
    """Name the help of the command that one of Typer's own errors is about."""
    context = getattr(error, "ctx", None)
    if context is None or context.parent is None:  # of no command, or of `mygpt` itself
        return "`mygpt --help` lists the commands, `mygpt COMMAND --help` its flags"
    return f"`{context.command_path} --help` lists its flags"


def _shortage(error: Exception) -> tuple[str, str] | None:
    """Describe an error that means that memory or disk ran out."""
    if is_out_of_memory(error):
        hint = "--batch-size or --context in training, --num-samples or --max-new-tokens in sampling"
        return "memory ran out", f"use a smaller model, or less at once: {hint}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
        return f"cannot write: {error.strerror}", "free some space, or write somewhere else"
    return None
