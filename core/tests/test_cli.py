"""The command line answers cheaply, names what is wrong, and leaves with the right status."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fascicle import PluginError, __version__
from fascicle.cli import COMMANDS, main
from fascicle.testing import run_fascicle, run_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def command_hook(plugin: str, word: str = "toy") -> str:
    return f"""
@hookimpl
def fascicle_commands():
    return {{"{word}": "fascicle_{plugin}.commands:main"}}
"""


def told(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    status = main(list(args))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--version") == (0, f"fascicle {__version__}\n", "")


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_names_every_command(capsys: pytest.CaptureFixture[str], args: tuple[str, ...]) -> None:
    status, out, _ = told(capsys, *args)
    assert status == 0
    assert all(f"\n  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = told(capsys, command, "--help")
    assert status == 0
    assert f"usage: fascicle {command}" in out


def test_a_misspelt_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = told(capsys, "reprot")
    assert status == 2
    assert "no command 'reprot'. Did you mean 'report'?" in err


def test_overrides_without_run_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = told(capsys, "seed=2")
    assert status == 2
    assert "fascicle run seed=2" in err


def test_a_plugins_command_runs(capsys: pytest.CaptureFixture[str], fake_plugin: Callable[..., Path]) -> None:
    home = fake_plugin("toy", more=command_hook("toy"))
    (home / "commands.py").write_text("def main(args):\n    print('toys:', *args)\n    return 7\n", encoding="utf-8")
    assert told(capsys, "toy", "a", "b") == (7, "toys: a b\n", "")


def test_two_plugins_with_one_command_are_both_named(
    capsys: pytest.CaptureFixture[str], fake_plugin: Callable[..., Path]
) -> None:
    for name in ("toy", "toz"):
        fake_plugin(name, more=command_hook(name))
    status, _, err = told(capsys, "toy")
    assert status == 2
    assert "'toy' is claimed by two plugins: toy and toz" in err


def test_a_plugin_cannot_take_a_word_of_the_core(
    capsys: pytest.CaptureFixture[str], fake_plugin: Callable[..., Path]
) -> None:
    fake_plugin("toy", more=command_hook("toy", "run"))
    status, _, err = told(capsys, "toy")
    assert status == 2
    assert "plugin 'toy' claims the command 'run'" in err
    assert told(capsys, "--help")[0] == 0


def test_a_command_that_cannot_be_loaded_names_its_plugin(
    capsys: pytest.CaptureFixture[str], fake_plugin: Callable[..., Path]
) -> None:
    fake_plugin("toy", more=command_hook("toy"))
    status, _, err = told(capsys, "toy")
    assert status == 2
    assert "command 'toy' of plugin 'toy': fascicle_toy.commands:main cannot be loaded" in err


# ---- plugins ------------------------------------------------------------------------------------------------------------


def test_plugins_lists_a_broken_one_and_the_rest_works(
    capsys: pytest.CaptureFixture[str], fake_plugin: Callable[..., Path]
) -> None:
    fake_plugin("toy", code="raise RuntimeError('at import')", version="3.2.1")
    status, out, _ = told(capsys, "plugins", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert rows["hf"]["status"] == "ok"
    assert rows["toy"]["status"] == "broken"
    assert rows["toy"]["version"] == "3.2.1"
    assert "RuntimeError: at import" in rows["toy"]["error"]


def test_plugins_check_finds_what_an_author_does_wrong(
    capsys: pytest.CaptureFixture[str], fake_plugin: Callable[..., Path]
) -> None:
    fake_plugin(
        "toy",
        options={"training/toy": "Missing"},
        conf={"training/other.yaml": "provider: toy\nkind: nothing\n"},
        more="\ndef fascicle_train(cfg, run):\n    return None\n",
    )
    status, out, _ = told(capsys, "plugins", "check", "toy")
    assert status == 1
    for complaint in (
        "'fascicle_train' has the name of a hook but lacks @hookimpl",
        "fascicle_toy.options:Missing",
        "training=other: its name must be 'toy' or begin with 'toy_'",
        "training=other: the file has no leading comment",
        "has no such kind of training",
    ):
        assert complaint in out


def test_plugins_check_of_a_missing_plugin_says_how_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = told(capsys, "plugins", "check", "nothere")
    assert status == 2
    assert "pip install fascicle-nothere" in err


def test_the_core_passes_its_own_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "plugins", "check", "hf") == (0, f"hf (fascicle {__version__}): ok\n", "")


def test_doctor_finds_a_stray_namespace_file_without_loading_plugins(
    tmp_path: Path, fake_plugin: Callable[..., Path]
) -> None:
    fake_plugin("toy", code="raise SystemExit('loaded')")
    stray = tmp_path / "site" / "hydra_plugins" / "__init__.py"
    stray.parent.mkdir()
    stray.touch()
    done = run_fascicle("plugins", "doctor")
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(stray.parent) in done.stdout
    assert "plugin toy: fascicle-toy 0.1.0" in done.stdout


def test_doctor_finds_a_plugin_whose_module_is_gone(tmp_path: Path, fake_plugin: Callable[..., Path]) -> None:
    home = fake_plugin("toy")
    home.rename(home.with_name("elsewhere"))
    done = run_fascicle("plugins", "doctor")
    assert done.returncode == 1
    assert "its module fascicle_toy.plugin is not there" in done.stdout


def test_run_works_with_a_stray_namespace_file(tmp_path: Path, fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy")
    (tmp_path / "site" / "hydra_plugins").mkdir()
    (tmp_path / "site" / "hydra_plugins" / "__init__.py").touch()
    done = run_fascicle("run", "experiment=smoke", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "name: smoke" in done.stdout


# ---- list ---------------------------------------------------------------------------------------------------------------


def test_list_shows_every_group(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = told(capsys, "list", "--json")
    rows = json.loads(out)
    assert status == 0
    assert {row["group"] for row in rows} == {
        *("model", "data", "objective", "training", "decoding", "evaluation", "experiment")
    }
    assert all(row["description"] for row in rows)


def test_list_of_one_option_shows_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = told(capsys, "list", "training/hf_lora", "--json")
    option = json.loads(out)
    keys = {key["key"]: key for key in option["keys"]}
    assert status == 0
    assert option["provider"] == "hf"
    assert keys["training.epochs"]["type"].startswith("Annotated[float")
    assert "Passes over the training rows" in keys["training.epochs"]["doc"]


def test_list_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = told(capsys, "list", "training/hf_lora")
    assert status == 0
    assert "training.epochs" in out


@pytest.mark.parametrize(
    ("word", "nearest"), [("trainings", "training"), ("training/hf_loar", "hf_lora"), ("trainin/hf_lora", "training")]
)
def test_list_of_something_else_names_the_nearest(capsys: pytest.CaptureFixture[str], word: str, nearest: str) -> None:
    status, _, err = told(capsys, "list", word)
    assert status == 2
    assert f"Did you mean '{nearest}'" in err


# ---- errors -------------------------------------------------------------------------------------------------------------

REFUSED = {
    "unknown key": (["training=hf_trainer", "training.learning_rat=1"], "Did you mean 'learning_rate'"),
    "wrong type": (["training=hf_trainer", "training.epochs=many"], "training.epochs"),
    "out of range": (["training=hf_trainer", "training.epochs=-1"], "training.epochs"),
    "unknown option": (["training=hf_loar"], "Did you mean 'hf_lora'"),
    "unknown group": (["trainin=hf_lora"], "Did you mean 'training'"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_wrong_configuration_leaves_with_2_and_without_a_traceback(case: str, tmp_path: Path) -> None:
    overrides, expected = REFUSED[case]
    done = run_fascicle("run", *overrides, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_is_refused_before_torch(tmp_path: Path) -> None:
    code = (
        "import sys, time; t = time.perf_counter(); from fascicle.cli import main;"
        "status = main(['run', 'training=hf_trainer', 'training.epochs=-1']);"
        "print(status, 'torch' in sys.modules, 'transformers' in sys.modules, time.perf_counter() - t < 2)"
    )
    assert run_python(code, cwd=tmp_path).stdout.split() == ["2", "False", "False", "True"]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_fascicle("run", "training=hf_trainer", "training.epochs=-1", "--log-level", "debug", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_an_unknown_log_level_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = told(capsys, "list", "--log-level", "loud")
    assert status == 2
    assert "expected one of debug, info, warning, error, got 'loud'" in err


@pytest.mark.parametrize("flags", [(), ("-m",)], ids=["run", "sweep"])
def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    done = run_fascicle("run", *flags, "experiment=smoke", f"run.root={tmp_path}/file/in", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plugins_error_shows_its_own_traceback_on_request(tmp_path: Path, fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy", code="import no_such_library")
    quiet = run_fascicle("run", "training=toy", cwd=tmp_path)
    loud = run_fascicle("run", "training=toy", "--log-level", "debug", cwd=tmp_path)
    assert quiet.returncode == loud.returncode == 2
    assert "No module named 'no_such_library'" in quiet.stderr
    assert "Traceback" not in quiet.stderr
    assert "import no_such_library" in loud.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m fascicle.cli list --json | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


# ---- running ------------------------------------------------------------------------------------------------------------


def test_the_smoke_experiment_runs_and_its_report_is_written(tmp_path: Path) -> None:
    done = run_fascicle("run", "experiment=smoke", "run.device=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    (result,) = (tmp_path / "outputs" / "smoke").glob("*/result.json")
    assert json.loads(result.read_text())["config"]["training"]["kind"] == "hf_trainer"
    page = tmp_path / "page.html"
    report = run_fascicle("report", str(tmp_path / "outputs"), "--out", str(page), cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert str(page) in report.stdout


def test_a_sweep_runs_every_combination_each_in_a_folder_of_its_own(tmp_path: Path) -> None:
    done = run_fascicle(
        "run", "-m", "experiment=smoke", "seed=1,2", "training.max_steps=1,2", "run.device=cpu", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs" / "smoke").glob("*/result.json"))) == 4


def test_a_sweep_with_a_wrong_value_names_it_and_runs_the_rest(tmp_path: Path) -> None:
    done = run_fascicle("run", "-m", "experiment=smoke", "training.max_steps=0,1", "run.device=cpu", cwd=tmp_path)
    assert done.returncode == 2
    assert "training.max_steps" in done.stderr
    assert len(list((tmp_path / "outputs" / "smoke").glob("*/result.json"))) == 1


def test_report_of_an_empty_folder_leaves_with_1(tmp_path: Path) -> None:
    done = run_fascicle("report", str(tmp_path))
    assert done.returncode == 1
    assert "error:" in done.stderr
    assert str(tmp_path) in done.stderr


def test_a_clash_between_core_words_is_a_plugin_error(fake_plugin: Callable[..., Path]) -> None:
    from fascicle.cli import plugin_commands

    fake_plugin("toy", more=command_hook("toy", "list"))
    with pytest.raises(PluginError, match="'list'"):
        plugin_commands()
