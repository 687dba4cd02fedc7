"""TAB after `fascicle run` completes overrides, as Hydra does for programs without sub-commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fascicle.commands.completion import complete
from fascicle.testing import run_fascicle, run_python

if TYPE_CHECKING:
    from collections.abc import Callable


def answered(line: str, shell: str = "bash") -> list[str]:
    done = run_fascicle("-sc", f"query={shell}", env={"COMP_LINE": line})
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_options_of_a_group(shell: str) -> None:
    assert {"training=none", "training=hf_lora"} <= set(answered("fascicle run training=", shell))


def test_groups_and_keys() -> None:
    assert {"training=", "training."} <= set(answered("fascicle run train"))


def test_keys_of_the_option_that_was_chosen() -> None:
    found = complete("fascicle run training=hf_lora training.lo")
    assert "training.lora." in found
    assert complete("fascicle run training=none training.lo") == []


def test_the_value_a_key_has() -> None:
    assert complete("fascicle run training=hf_lora training.lora.r=") == ["training.lora.r=8"]


def test_keys_that_the_file_does_not_show() -> None:
    assert complete("fascicle run training=hf_trainer training.learning_r") == ["training.learning_rate="]


def test_the_values_a_key_may_have() -> None:
    found = complete("fascicle run -m training=hf_lora,none training.schedule=")
    assert found == [f"training.schedule={value}" for value in ("linear", "cosine", "constant")]
    assert complete("fascicle run training=hf_lora training.gradient_checkpointing=t") == [
        "training.gradient_checkpointing=true"
    ]


def test_earlier_words_may_set_hidden_keys_flags_and_log_levels() -> None:
    line = "fascicle run -m --log-level debug experiment=smoke run.root=/x seed="
    assert complete(line) == ["seed=1"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fascicle r", ["report", "run"]),
        ("fascicle plugins d", ["doctor"]),
        ("fascicle plugins check h", ["hf"]),
        ("fascicle list training/hf_l", ["training/hf_lora"]),
        ("fascicle list exp", ["experiment"]),
        ("fascicle run --log-level d", ["debug"]),
        ("fascicle run --mul", ["--multirun"]),
        ("fascicle completion z", ["zsh"]),
        ("fascicle report ", []),
    ],
)
def test_words_of_the_other_commands(line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_a_line_that_cannot_be_parsed_says_nothing() -> None:
    assert answered("fascicle run foo=[1, tr") == []


def test_a_plugins_options_complete(fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy", conf={"training/toy.yaml": "# Toy.\nprovider: toy\nkind: toy\n"})
    assert answered("fascicle run training=to") == ["training=toy"]


def test_completing_imports_no_torch() -> None:
    code = (
        "import sys; from fascicle.commands.completion import complete;"
        "complete('fascicle run training=hf_lora training.'); print('torch' in sys.modules)"
    )
    assert run_python(code).stdout.strip() == "False"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_code_completes_the_program(shell: str) -> None:
    done = run_fascicle("completion", shell)
    assert done.returncode == 0
    assert "complete " in done.stdout
    assert "-sc query=" in done.stdout


def test_an_unknown_shell_is_refused() -> None:
    done = run_fascicle("completion", "tcsh")
    assert done.returncode == 2
    assert "expected one of bash, zsh, fish" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_itself_completes(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("fascicle")
    if not script.exists():
        pytest.skip("the console script is not installed")
    lines = f"""
    export PATH="{script.parent}:$PATH"
    eval "$(fascicle completion bash)"
    COMP_LINE="fascicle run training=hf_lor" COMP_POINT=28 COMP_CWORD=2
    hydra_bash_completion
    echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["training=hf_lora"], done.stderr
