"""The command line: `fascicle run | list | plugins | report | completion`, and what plugins add.

The word is looked up before anything is imported, so each command costs only what it needs. Errors of ours are printed without a
traceback, 2 for a configuration or plugin that cannot run and 1 for everything else; `--log-level debug` shows the traceback.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import cast

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": ("fascicle.commands.run:main", "Run one experiment, or a sweep with -m"),
    "list": ("fascicle.commands.options:main", "List options: fascicle list [group | group/option]"),
    "plugins": ("fascicle.commands.plugins:main", "List plugins; check [name]; doctor"),
    "report": ("fascicle.commands.report:main", "Compare finished runs: one table, one HTML page"),
    "completion": ("fascicle.commands.completion:main", "Print the tab completion of bash, zsh or fish"),
}
"""Command to (`module:function`, one line of help). Plugins cannot take these words."""

ANSWERS = ("list", "plugins", "completion")
"""Commands that look something up, print it and end."""

LOG_LEVEL = "FASCICLE_LOG_LEVEL"
"""Variable by which the level reaches workers."""
LOG_LEVELS = ("debug", "info", "warning", "error")
Command = Callable[[list[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    fascicle ...
    0
    """
    args = list(sys.argv[1:] if argv is None else argv)
    before = os.environ.get(LOG_LEVEL)
    try:
        level, args = take_log_level(args)
        if level is not None:
            os.environ[LOG_LEVEL] = level  # workers inherit it
        return _dispatch(args)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; say nothing at exit either
        return 141
    except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, it is printed
        return _tell(error)
    finally:
        if before is None:
            os.environ.pop(LOG_LEVEL, None)
        else:
            os.environ[LOG_LEVEL] = before


def _tell(error: Exception) -> int:
    from .errors import ConfigError, FascicleError, PluginError

    if os.environ.get(LOG_LEVEL) == "debug" or not isinstance(error, FascicleError):
        import traceback

        traceback.print_exception(error)
    else:
        sys.stderr.write(f"error: {error}\n")
        if isinstance(error, PluginError) and error.__cause__ is not None:
            sys.stderr.write("(--log-level debug shows the traceback)\n")
    return 2 if isinstance(error, ConfigError | PluginError) else 1


def take_log_level(args: list[str]) -> tuple[str | None, list[str]]:
    """Take `--log-level LEVEL` out of the arguments.

    Raises:
        ConfigError: no level is given, or not one of `LOG_LEVELS`.

    >>> take_log_level(["run", "--log-level", "debug", "seed=1"])
    ('debug', ['run', 'seed=1'])
    """
    rest, level = [], None
    words = iter(args)
    for word in words:
        if word == "--log-level":
            level = next(words, "").lower()
        elif word.startswith("--log-level="):
            level = word.partition("=")[2].lower()
        else:
            rest.append(word)
    if level is not None and level not in LOG_LEVELS:
        from .errors import ConfigError

        raise ConfigError(f"--log-level: expected one of {', '.join(LOG_LEVELS)}, got {level!r}")
    return level, rest


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        return _help()
    word, rest = args[0], args[1:]
    if word in ("-V", "--version"):
        from . import __version__

        sys.stdout.write(f"fascicle {__version__}\n")
        return 0
    if word in ("-sc", "--shell-completion"):
        return _load("fascicle.commands.completion:query")(rest)
    if word in COMMANDS:
        with _without_collector(word in ANSWERS):
            return _load(COMMANDS[word][0])(rest)
    return _plugin_command(word)(rest)


@contextlib.contextmanager
def _without_collector(wanted: bool) -> Iterator[None]:
    """A command that ends at once spends a twentieth of its time looking for garbage among the modules that it imports."""
    on = wanted and gc.isenabled()
    if on:
        gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _load(target: str) -> Command:
    from importlib import import_module

    module, _, name = target.partition(":")
    return cast("Command", getattr(import_module(module), name))


def _plugin_command(word: str) -> Command:
    from .errors import ConfigError, PluginError
    from .plugins import suggest

    commands = plugin_commands()
    if word not in commands:
        hint = f" To run with overrides: fascicle run {word}" if "=" in word else ""
        known = [*COMMANDS, *commands]
        raise ConfigError(f"no command {word!r}.{suggest(word, known)}{hint} Commands: {', '.join(known)}")
    plugin, target = commands[word]
    try:
        return _load(target)
    except Exception as error:
        raise PluginError(f"command {word!r} of plugin {plugin!r}: {target} cannot be loaded: {error}") from error


def plugin_commands() -> dict[str, tuple[str, str]]:
    """The plugins' commands: word to (plugin, `module:function`).

    Raises:
        PluginError: a plugin takes a word of the core, or two plugins take the same.
    """
    from .errors import PluginError
    from .plugins import manager

    commands = manager().commands()
    for word, (plugin, _) in commands.items():
        if word in COMMANDS:
            raise PluginError(
                f"plugin {plugin!r} claims the command {word!r}, which is the core's; it must choose another word"
            )
    return commands


def _help() -> int:
    from .errors import PluginError

    lines = ["usage: fascicle COMMAND ... [--log-level LEVEL]", "", "commands:"]
    lines += [f"  {word:<12}{text}" for word, (_, text) in COMMANDS.items()]
    try:
        lines += [f"  {word:<12}from the plugin {plugin}" for word, (plugin, _) in plugin_commands().items()]
    except PluginError as error:
        lines += ["", f"note: {error}"]
    lines += ["", "fascicle COMMAND --help says more. LEVEL: debug (tracebacks), info, warning, error.", ""]
    sys.stdout.write("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
