"""The command group: which commands there are, how they end, and how an error is told."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import click

from pipeline.addresses import redacted
from workflows.cli.progress import Console

COMMANDS = (
    *("run", "plan", "stitch", "status", "verify", "info", "export", "preview"),
    *("evaluate", "models", "finetune", "demo", "bench"),
)
"""Each is the function of that name in the module of that name."""

CONTINUED = ("run", "stitch", "demo")
"""Commands that leave behind what the same command goes on from."""

AGAIN = {**dict.fromkeys(CONTINUED, "; the same command continues"), "finetune": "; with --resume it goes on"}
"""What to do after a stop, by command."""

EARLY = (75, 130, 143)
"""Exit codes of ends that may leave a task at work in a thread: one that hangs, or a signal."""


class Terminated(BaseException):
    """SIGTERM, raised where the main thread is, so that everything is left in order."""


TASKS = "Dask-Default"
"""How Dask's threads are called that run tasks in this process."""

STOPS: dict[signal.Signals, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
"""What a signal raises."""


class Failure(NamedTuple):
    """How an error ends a command: the exit code, and one line."""

    code: int
    text: str


def explain(error: BaseException, command: str | None = None) -> Failure:
    """Exit code and line for an error.

    Args:
        error: What was raised.
        command: The command that was under way.
    """
    from eomt_core.errors import ModelError
    from pipeline.errors import DISK_FULL, EomtBatchError
    from pipeline.storage.buckets import explained

    again = AGAIN.get(command or "", "")
    match error:
        case KeyboardInterrupt():
            return Failure(130, f"stopped by SIGINT{again}")
        case Terminated():
            return Failure(143, f"stopped by SIGTERM{again}")
        case click.ClickException():
            return Failure(2, _usage(error))
        case EomtBatchError():
            return Failure(error.exit_code, _one_line(error))
        case _ if told := explained(error):
            return Failure(told.exit_code, str(told))
        case ModelError():
            return Failure(2, _one_line(error))
        case OSError() if error.errno in DISK_FULL:
            return Failure(75, f"the disk is full ({_one_line(error)}); make room{again}")
        case OSError():
            return Failure(1, f"{type(error).__name__}: {_one_line(error)}{again}; -v shows the traceback")
        case _:
            return Failure(1, f"{type(error).__name__}: {_one_line(error)}; this is a defect; -v shows the traceback")


def tell(console: Console, failure: Failure, error: BaseException) -> None:
    """Say on stderr why a command ends; with -v also where in the code."""
    # Asked for nothing, click from 8.2 on raises the help; before, it printed it.
    if isinstance(error, click.UsageError) and type(error).__name__ == "NoArgsIsHelpError":
        click.echo(error.format_message(), err=True)
        return
    if console.verbose and isinstance(error, Exception) and not isinstance(error, click.ClickException):
        click.echo(redacted("".join(traceback.format_exception(error))), err=True, nl=False)
    console.error(f"eomt-batch: error: {failure.text}", failure.code)


def _one_line(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__


def _usage(error: click.ClickException) -> str:
    """Click's words, and where the options are explained if click itself found the fault."""
    text = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text.rstrip('.?')}; see {context.command_path} --help" if context else text


class Commands(click.Group):
    """A group that imports a command's module when the command is asked for, and ends with our exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"workflows.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error becomes its line and its exit code."""
        ctx.obj = console = Console()
        try:
            with console.hears_logs():
                return super().invoke(ctx)
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except BaseException as error:
            failure = explain(error, ctx.invoked_subcommand)
            tell(console, failure, error)
            raise click.exceptions.Exit(failure.code) from error

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Parse, run, exit."""
        extra |= {"standalone_mode": False, "prog_name": "eomt-batch"}
        with _signals_raise():
            try:
                code = super().main(*args, **extra)
            except (click.ClickException, click.Abort) as error:
                failure = explain(KeyboardInterrupt() if isinstance(error, click.Abort) else error)
                tell(Console(), failure, error)
                code = failure.code
        sys.exit(code or 0)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM raise, and the second end all at once; only a main thread can be told so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A shell starts what it puts into the background with SIGINT ignored: that stays.
    heard = [kind for kind in STOPS if signal.getsignal(kind) is not signal.SIG_IGN]
    before = {kind: signal.signal(kind, _stop) for kind in heard}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for kind in STOPS:
        signal.signal(kind, _abort)
    raise STOPS[signal.Signals(number)]


def _abort(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _show_version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from rasterio import __gdal_version__ as gdal

    click.echo(f"eomt-batch {version('eomt-batch')} (torch {version('torch')}, GDAL {gdal})")
    ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110},
    epilog="\b\nExample:\n  eomt-batch run input.tif --model DIR --out masks.zarr",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Versions, then exit."
)
def cli() -> None:
    """Segment rasters too big for memory with EoMT, into a seamless georeferenced Zarr mosaic.

    Results go to stdout, words and progress to stderr. Exit codes: 0 complete, 1 failed, 2 nothing was started (usage
    or input), 3 finished but some blocks or inputs failed, 75 a rerun may heal it, 130/143 stopped by a signal. All
    but 2 leave a run that the same command continues.
    """


def _is_busy(thread: threading.Thread) -> bool:
    """Whether a thread would keep the program from ending, or is torn out of a task by its end."""
    return thread is not threading.main_thread() and (not thread.daemon or thread.name.startswith(TASKS))


def main() -> None:
    """The program."""
    try:
        cli()
    except SystemExit as end:
        if "obstore" in sys.modules or (end.code in EARLY and any(map(_is_busy, threading.enumerate()))):
            # A batch may take minutes: Python would wait for its thread, or tear it out of C++ and abort. So it
            # does now and then with obstore's threads, which let go of their objects a moment after they answer.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code or 0))
        raise
