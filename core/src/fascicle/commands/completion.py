"""Tab completion: our words, then Hydra's own completion for `fascicle run`.

The shell asks `fascicle -sc query=SHELL` with the line so far in `COMP_LINE`. Hydra's completion knows no sub-commands and takes
the first word only as the program's name, so the word `run` is taken out of the line here; words that no override can be are
answered here too, because Hydra's override parser would raise at them.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from ..cli import COMMANDS, LOG_LEVELS, plugin_commands
from ..errors import ConfigError, PluginError

__all__ = ["complete", "main", "query"]

SHELLS = ("bash", "zsh", "fish")
RUN_FLAGS = ("--multirun", "--cfg", "--info", "--config-dir", "--log-level", "--help")
HELP = """\
usage: fascicle completion bash|zsh|fish

  bash: echo 'eval "$(fascicle completion bash)"' >> ~/.bashrc
  zsh:  echo 'eval "$(fascicle completion zsh)"' >> ~/.zshrc
  fish: fascicle completion fish > ~/.config/fish/completions/fascicle.fish
"""


def main(args: list[str]) -> int:
    """Print the shell code that turns completion on.

    Raises:
        ConfigError: a shell that is not known.
    """
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0
    if args[0] not in SHELLS:
        raise ConfigError(f"no completion for {args[0]!r}; expected one of {', '.join(SHELLS)}")
    if args[0] == "zsh":
        sys.stdout.write("autoload -Uz compinit bashcompinit && compinit && bashcompinit\n")
    shell = "fish" if args[0] == "fish" else "bash"
    _hydra([f"install={shell}"])
    return 0


def query(args: list[str]) -> int:
    """Answer the shell: `query=SHELL` reads `COMP_LINE`; `install=` and `uninstall=` are Hydra's.

    An error says nothing here, because its text would land in the user's half-typed line.
    """
    if not args or not args[0].startswith("query="):
        _hydra(args)
        return 0
    separator = "\n" if args[0] == "query=fish" else " "
    with contextlib.suppress(Exception):
        sys.stdout.write(separator.join(complete(os.environ.get("COMP_LINE", ""))) + "\n")
    return 0


def complete(line: str) -> list[str]:
    """What may stand at the end of `line`, which begins with the program's name.

    >>> complete("fascicle pl")
    ['plugins']
    >>> complete("fascicle plugins d")
    ['doctor']
    """
    words = line.split()[1:]
    current = "" if line.endswith(" ") or not line else (words.pop() if words else "")
    if not words:
        return sorted(word for word in _commands() if word.startswith(current))
    command, before = words[0], words[1:]
    if before and before[-1] == "--log-level":
        return [level for level in LOG_LEVELS if level.startswith(current)]
    if command == "run":
        if current.startswith("-"):
            return [flag for flag in RUN_FLAGS if flag.startswith(current)]
        return _hydra_query(before, current)
    choices: tuple[str, ...] | list[str] = ()
    if command == "list":
        choices = ["--json", *_option_names(current)]
    elif command == "plugins":
        from ..plugins import manager

        choices = [r.name for r in manager().plugins] if before == ["check"] else ("check", "doctor", "--json")
    elif command == "completion":
        choices = SHELLS
    return [word for word in choices if word.startswith(current)]


def _commands() -> list[str]:
    with contextlib.suppress(PluginError):
        return [*COMMANDS, *plugin_commands()]
    return list(COMMANDS)


def _option_names(current: str) -> list[str]:
    from ..plugins import GROUPS, manager

    if "/" not in current:
        return list(GROUPS)
    return sorted(f"{group}/{option}" for group, option in manager().option_owners())


def _hydra_query(before: list[str], current: str) -> list[str]:
    """Hydra's completion of the overrides alone."""
    from ..cli import take_log_level
    from ..overrides import open_keys

    _, plain = take_log_level(before)
    line = " ".join(["fascicle", *open_keys(plain), current])
    told, kept = io.StringIO(), os.environ.get("COMP_LINE")
    os.environ["COMP_LINE"] = line
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
            _hydra(["query=bash"])
    finally:
        if kept is None:
            del os.environ["COMP_LINE"]
        else:
            os.environ["COMP_LINE"] = kept
    return told.getvalue().split()


def _hydra(args: list[str]) -> None:
    from .run import hydra_app

    hydra_app(["-sc", *args])
