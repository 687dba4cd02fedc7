"""Tab completion: our words, then Hydra's own completion for `fascicle run`.

The shell asks `fascicle -sc query=SHELL` with the line so far in `COMP_LINE`. Hydra's completion knows no sub-commands and takes
the first word only as the program's name, so the word `run` is taken out of the line here. The keys of an option come from its
schema, which knows more than the file shows. Words that no override can be are answered here too: Hydra's parser would raise.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from ..cli import COMMANDS, LOG_LEVELS, plugin_commands
from ..errors import ConfigError, PluginError
from ..hookspecs import VERBS

GROUPS = (*VERBS, "experiment")

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
        if current.partition(".")[0] in VERBS and "." in current:
            return _keys(before, current)
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


def _keys(before: list[str], current: str) -> list[str]:
    """Keys of the chosen option, nested ones too, or the values that a key may have."""
    import dataclasses

    from ..config import compose, field_types
    from ..plugins import manager

    group, _, rest = current.partition(".")
    chosen = [word.split(",")[0] for word in before if word.partition("=")[0] in GROUPS]
    value = compose(chosen)[group]
    schema: Any = manager().schema(group, value.pop("kind"), value.pop("provider"))
    key, equals, _ = rest.partition("=")
    path = f"{group}."
    *parents, last = key.split(".")
    for parent in parents:
        schema = next(t for t in field_types(schema)[parent] if dataclasses.is_dataclass(t))
        value, path = (value or {}).get(parent), f"{path}{parent}."
    if not equals:
        ends = {
            name: "." if any(map(dataclasses.is_dataclass, types)) else "="
            for name, types in field_types(schema).items()
        }
        return [f"{path}{name}{end}" for name, end in ends.items() if name.startswith(last)]
    defaults = {f.name: f.default for f in dataclasses.fields(schema) if f.default is not dataclasses.MISSING}
    now = (value or {}).get(last, defaults.get(last))
    options = [*_choices(field_types(schema)[last]), *([] if isinstance(now, dict | list | None) else [_spell(now)])]
    return [word for word in dict.fromkeys(f"{path}{last}={option}" for option in options) if word.startswith(current)]


def _choices(types: Iterable[Any]) -> list[str]:
    found = [
        _spell(value) for t in types for value in ((False, True) if t is bool else (t,) if isinstance(t, str) else ())
    ]
    return [*found, "null"] if type(None) in types and found else found


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
