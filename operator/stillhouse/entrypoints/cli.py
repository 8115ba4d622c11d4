"""`still`: the command line. Commands are loaded when they are called; errors become lines and exit codes here."""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from stillhouse import __version__
from stillhouse.entrypoints import interrupts
from stillhouse.entrypoints.failures import as_data
from stillhouse.entrypoints.options import chosen_output, emit
from stillhouse.errors import EnvironmentProblem, StillhouseError

__all__ = ["app", "main"]

# name → (module, what `still --help` says)
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Build what is missing, serve it, and stay until Ctrl-C."),
    "build": ("build", "Build what is missing; serve nothing."),
    "plan": ("plan", "Show each step, why it runs or is cached, and what it will cost."),
    "lint": ("lint", "Check a file without building."),
    "infer": ("infer", "Ask a running model."),
    "edge": ("edge", "Run a model and its gateway on this machine."),
    "ask": ("ask", "Ask a gateway, and show which model answered."),
    "export": ("export", "Write a model in formats of other runtimes."),
    "pack": ("pack", "Write what was built of a model to one file."),
    "status": ("status", "Show models, steps, figures and servers as a tree."),
    "bench": ("bench", "Measure latency and throughput of what is running."),
    "compare": ("compare", "Compare two models or revisions figure by figure."),
    "logs": ("logs", "Show a server's log."),
    "down": ("down", "Stop a model's server."),
    "rebuild": ("rebuild", "Build a model again, also what is cached."),
    "push": ("push", "Upload what FILE names here, and bind it in a cluster."),
    "rollback": ("rollback", "Put a former revision of a cluster's model back in place."),
    "gc": ("gc", "Free what no model refers to."),
    "doctor": ("doctor", "Check this machine; every failure comes with its fix."),
    "audit": ("audit", "Verify audit logs of the gateway."),
    "crd": ("crd", "Print the CustomResourceDefinitions."),
    "completion": ("completion", "Print the shell's completion script."),
}

EPILOG = """\b
Exit codes:
  0  done
  1  a bug in Stillhouse (a traceback is kept, its path is printed)
  2  the file, the data or the command line is wrong
  3  the gate failed: a limit was missed
  4  the gate was too noisy to tell
  5  the machine is in the way: server, store, disk, packages
  130  interrupted; the same command goes on where it was

With -o json or yaml, an error (2 to 5) is a document on standard output too, where the data would have been:
{"error", "exitCode", "problems": [{"field", "line", "found", "allowed", "fix", "message"}]}. Its text stays on standard
error, beside the progress.
"""


class ReaderGone(Exception):
    """Nobody reads our output any more (`still status | head`)."""


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Tell a broken pipe from other errors before click does, which would end with 1."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse the command line."""
        with _output():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Where data was asked for, an error is data too; its text and exit code are `run`'s."""
        with _output():
            try:
                return super().invoke(ctx)
            except (StillhouseError, click.ClickException) as error:
                output = chosen_output(ctx)
                if output != "text" and not interrupts.requested():
                    emit(as_data(error), output, lambda: None)
                raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"stillhouse.entrypoints.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the likely command when one is misspelt."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], list(COMMANDS), n=1)
            hint = f" Did you mean: still {near[0]}?" if near else " `still --help` lists the commands."
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="still")
def app() -> None:
    """One YAML file from a teacher model to a small, quantized, measured gRPC service.

    \b
    Example:
      still up examples/docstring-search/distilledmodel.yaml
      still infer docstring-search "Return the current working directory."
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `still` and exit with its code."""
    _streams()
    atexit.register(interrupts.ignore)  # the first to be registered is the last to be called
    code = run(arguments)
    if code == 130 or interrupts.requested():
        # A Ctrl-C that C code ran into while it imported Python code (pyarrow, pandas) stays marked as unhandled, also where
        # the command could be finished: CPython would kill itself by SIGINT at the end instead of returning our code.
        _leave(code)
    interrupts.listen(lambda: _leave(code))  # all is said: a Ctrl-C from now on ends only what Python does at its end
    sys.exit(code)


def _streams() -> None:
    """Give this process the three streams that it expects: a service may have been started without some.

    What an encoding has no sign for is escaped.
    """
    for number in range(3):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the signal came while it was being flushed
            stream.flush()
    os._exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `still` and return its exit code (documented in `still --help`)."""
    interrupts.listen()
    try:
        result: Any = app.main(args=None if arguments is None else list(arguments), standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except StillhouseError as error:
        if interrupts.requested():  # an import that Ctrl-C broke looks like a missing package
            return _say_interrupted()
        with contextlib.suppress(OSError):  # nobody is left to read it; the code tells all the same
            for problem in error.problems:
                click.secho("error: ", fg="red", bold=True, nl=False, err=True)
                click.echo("\n".join(problem.lines()), err=True)
        return error.exit_code
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _say_interrupted()
    except ReaderGone:
        # Not an error; but Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 130 if interrupts.requested() else 0  # `| tee log` dies of the same Ctrl-C
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _say_interrupted() if interrupts.requested() else _bug(error)
        with contextlib.suppress(OSError):
            click.echo(f"error: the output cannot be written: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would try once more, at its end
        return EnvironmentProblem.exit_code
    except Exception as error:  # a bug: the user gets a line and a file, not a traceback
        return _say_interrupted() if interrupts.requested() else _bug(error)


def _say_interrupted() -> int:
    with contextlib.suppress(OSError):  # a terminal that was closed takes no words
        click.echo("interrupted: what is finished is kept; the same command goes on from there", err=True)
    return 130


def _bug(error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="still-bug-", suffix=".txt", delete=False, encoding="utf-8") as stream:
        traceback.print_exception(error, file=stream)
    cause = error.__cause__ or error
    text = f"{error}: " if error is not cause else ""
    with contextlib.suppress(OSError):
        click.secho("bug in Stillhouse: ", fg="red", bold=True, nl=False, err=True)
        click.echo(f"{text}{type(cause).__name__}: {cause}\n  traceback: {stream.name}", err=True)
    return 1


if __name__ == "__main__":
    main()
