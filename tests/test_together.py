"""Everything installed together: nobody disturbs anybody, and an unused plugin changes no byte."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fascicle.plugins import manager
from fascicle.testing import run_fascicle

INSTALLED = [record.name for record in manager().plugins if record.name != "hf"]


def smoke(folder: Path, allowed: str | None) -> tuple[str, str]:
    env = {"FASCICLE_PLUGINS": allowed}
    shown = run_fascicle("run", "experiment=smoke", "--cfg", "job", "--resolve", env=env)
    ran = run_fascicle("run", "experiment=smoke", f"run.dir={folder}", "run.device=cpu", env=env)
    assert shown.returncode == ran.returncode == 0, shown.stderr + ran.stderr
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    told = json.dumps({key: result[key] for key in ("metrics", "history", "config", "identity", "choices")})
    return shown.stdout, re.sub(r'"[a-z_]*(seconds|per_second)": [0-9.e-]+', '""', told)


def test_no_plugin_is_broken() -> None:
    assert INSTALLED, "no plugin is installed beside the core"
    assert {record.name: (record.status, record.problems) for record in manager().plugins} == {
        record.name: ("ok", []) for record in manager().plugins
    }


def test_no_option_is_claimed_twice() -> None:
    assert [option for option, owners in manager().option_owners().items() if len(owners) > 1] == []


def test_the_smoke_experiment_is_the_same_with_none_and_with_all(tmp_path: Path) -> None:
    none = smoke(tmp_path / "none", "")
    everything = smoke(tmp_path / "all", None)
    assert none == everything


@pytest.mark.parametrize("name", INSTALLED)
def test_blocking_a_plugin_takes_its_options_away(name: str) -> None:
    done = run_fascicle("list", "--json", env={"FASCICLE_DISABLE_PLUGINS": name})
    assert done.returncode == 0
    assert name not in {row["plugin"] for row in json.loads(done.stdout)}


def test_a_result_names_only_the_plugins_that_took_part(tmp_path: Path) -> None:
    smoke(tmp_path / "run", None)
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert set(result["provenance"]["plugins"]) == {"hf"}
