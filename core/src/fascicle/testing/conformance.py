"""The suite that every plugin passes; an author subclasses it and names the plugin.

    class TestToy(PluginConformance):
        plugin = "toy"

Nothing of it is overridden. An author relaxes a test only by `xfails = {"test_...": "reason"}`, which stands in the open.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from ..config import check, compose, schema_fields
from ..optionfiles import option_files
from ..plugins import CORE_PROVIDER, manager
from .helpers import load, run_context, run_fascicle, run_python

if TYPE_CHECKING:
    import torch

    from ..optionfiles import OptionFile

__all__ = ["HEAVY", "PluginConformance"]

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "accelerate",
    "hydra",
    "omegaconf",
    "matplotlib",
    "scipy",
    "sklearn",
)
"""What a hook module must not import."""


class PluginConformance:
    """Static checks, composition, runs on the CPU, and inertness of one plugin."""

    __test__ = False

    plugin: ClassVar[str]
    """Entry-point name."""
    dist: ClassVar[str | None] = None
    """Distribution; `fascicle-PLUGIN` by default."""
    module: ClassVar[str | None] = None
    """Top-level module; `fascicle_PLUGIN` by default."""
    project: ClassVar[Path | None] = None
    """Folder with the `pyproject.toml`; where given, a wheel is built from it and compared with the sources."""
    required: ClassVar[Mapping[str, Sequence[str]]] = {}
    """`"group=option"` to the overrides without which the option has no meaning (a path, say)."""
    smoke: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Experiment to the overrides that make it run in seconds on a CPU."""
    xfails: ClassVar[Mapping[str, str]] = {}
    """Test to the reason why this plugin cannot pass it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__test__ = True
        own = [name for name in vars(cls) if name.startswith("test_") and hasattr(PluginConformance, name)]
        if own:
            raise TypeError(f"{cls.__name__} overrides {', '.join(own)}; name them in xfails with a reason instead")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per option file and per experiment."""
        files = [file for file in option_files() if file.plugin == self.plugin]
        experiments = [file for file in files if file.group == "experiment" and file.name != "none"]
        if "option" in metafunc.fixturenames:
            metafunc.parametrize("option", files, ids=[f"{file.group}/{file.name}" for file in files])
        if "experiment" in metafunc.fixturenames:
            metafunc.parametrize("experiment", experiments, ids=[file.name for file in experiments])

    @pytest.fixture(autouse=True)
    def _relaxed(self, request: pytest.FixtureRequest) -> None:
        reason = self.xfails.get(request.function.__name__)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    # ---- what the tests share ----

    def _dist(self) -> metadata.Distribution:
        default = "fascicle" if self.plugin == CORE_PROVIDER else f"fascicle-{self.plugin}"
        return metadata.distribution(self.dist or default)

    def _module(self) -> str:
        return self.module or ("fascicle" if self.plugin == CORE_PROVIDER else f"fascicle_{self.plugin}")

    def _overrides(self, file: OptionFile) -> list[str]:
        choice = f"{file.group}={file.name}"
        return [choice, *self.required.get(choice, ())]

    # ---- static ----

    def test_it_loads_without_a_complaint(self) -> None:
        record = manager().usable(self.plugin)
        assert not record.problems, "; ".join(map(str, record.problems))

    def test_names_agree(self) -> None:
        record = manager().usable(self.plugin)
        assert record.dist == self._dist().name
        assert record.value.partition(".")[0] == self._module()
        assert record.info is not None
        assert record.info.name == self.plugin

    def test_it_says_who_it_is(self) -> None:
        info = manager().usable(self.plugin).info
        assert info is not None
        assert info.title, "PluginInfo.title is empty"
        if self.plugin != CORE_PROVIDER:
            assert info.paper, "PluginInfo.paper is empty: authors, title, venue, year"
            assert re.search(r"@\w+\{", info.bibtex), "PluginInfo.bibtex is no BibTeX entry"

    def test_it_requires_a_range_of_the_core(self) -> None:
        if self.plugin == CORE_PROVIDER:
            pytest.skip("this is the core")
        ours = [r for r in self._dist().requires or [] if re.match(r"fascicle\s*[<>=(]", r)]
        assert len(ours) == 1, "no requirement on fascicle with a range, e.g. fascicle>=0.1,<0.2"
        assert ">" in ours[0], f"{ours[0]!r} has no lower bound"
        assert "<" in ours[0], f"{ours[0]!r} has no upper bound"

    def test_it_is_typed(self) -> None:
        assert (resources.files(self._module()) / "py.typed").is_file(), f"{self._module()} lacks py.typed"

    def test_config_packages_hold_group_folders_only(self) -> None:
        for package in manager().config_packages().get(self.plugin, []):
            root = resources.files(package)
            assert (root / "__init__.py").is_file(), f"{package} lacks __init__.py"
            stray = [f.name for f in root.iterdir() if f.name.endswith((".yaml", ".yml"))]
            assert self.plugin == CORE_PROVIDER or not stray, f"{package}: {stray} must lie in a group's folder"

    def test_hook_module_and_schemas_import_nothing_heavy(self) -> None:
        record = manager().usable(self.plugin)
        assert record.info is not None
        schemas = sorted({target.partition(":")[0] for target in record.info.options.values()})
        code = (
            "import importlib, sys\n"
            f"for name in {[record.value.partition(':')[0], *schemas]!r}: importlib.import_module(name)\n"
            "import fascicle.plugins as p\n"
            f"m = p.manager(); m.config_packages(); m.commands(); m.option_owners(); m.usable({self.plugin!r})\n"
            f"heavy = sorted(set({HEAVY!r}) & set(sys.modules)); print(','.join(heavy))"
        )
        done = run_python(code, env={"FASCICLE_PLUGINS": self.plugin})
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "", f"imported at hook level: {done.stdout.strip()}"

    def test_hook_module_imports_fast(self) -> None:
        value = manager().usable(self.plugin).value.partition(":")[0]
        code = (
            "import time, fascicle.plugins, fascicle.objects, fascicle.hookspecs\n"
            f"t = time.process_time(); __import__({value!r}); print(time.process_time() - t)"
        )
        seconds = min(float(run_python(code).stdout) for _ in range(5))
        assert seconds <= 0.010, f"{value} takes {1000 * seconds:.1f} ms CPU to import; 10 are allowed"

    def test_option_name(self, option: OptionFile) -> None:
        if self.plugin != CORE_PROVIDER:
            fits = option.name == self.plugin or option.name.startswith(f"{self.plugin}_")
            assert fits, f"{option.name!r} must be {self.plugin!r} or begin with {self.plugin + '_'!r}"
        owners = manager().option_owners()[option.group, option.name]
        assert len(owners) == 1, f"offered by {owners}"

    def test_option_file_is_data_and_says_what_it_is(self, option: OptionFile) -> None:
        text = (resources.files(option.package) / option.group / f"{option.name}.yaml").read_text(encoding="utf-8")
        assert not re.search(r"^\s*_target_\s*:", text, re.MULTILINE), "YAML never names Python to import"
        assert option.description, "the file must begin with a comment that says what the option is"
        if option.group == "experiment":
            assert text.startswith("# @package _global_\n"), "an experiment's first line is '# @package _global_'"

    def test_readme_has_paper_bibtex_and_numbers(self) -> None:
        if self.plugin == CORE_PROVIDER:
            pytest.skip("the core implements no paper")
        text = (self.project / "README.md").read_text(encoding="utf-8") if self.project else _readme(self._dist())
        info = manager().usable(self.plugin).info
        assert info is not None
        assert re.search(r"@\w+\{", text), "README: no BibTeX entry"
        assert re.search(r"^\|.*\d.*\|\s*$", text, re.MULTILINE), "README: no table with numbers"
        assert f"fascicle-{self.plugin}" in text, "README: does not say how to install it"

    def test_wheel_holds_every_option_file(self, tmp_path: Path) -> None:
        if self.project is None:
            pytest.skip("the class names no project folder")
        pytest.importorskip("hatchling", reason="the build backend is not installed")
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
        done = subprocess.run([*command, str(self.project)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (wheel,) = tmp_path.glob("*.whl")
        source = self.project / "src"
        yamls = {file.relative_to(source).as_posix(): file.read_bytes() for file in source.rglob("*.yaml")}
        with zipfile.ZipFile(wheel) as archive:
            packed = {name: archive.read(name) for name in archive.namelist() if name.endswith(".yaml")}
        assert packed == yamls

    # ---- composing ----

    def test_composes_and_checks(self, option: OptionFile) -> None:
        config = compose(self._overrides(option))
        checked = check(config)
        assert checked.choices[option.group] == option.name

    def test_every_key_is_documented(self, option: OptionFile) -> None:
        if option.group == "experiment":
            pytest.skip("an experiment has no keys of its own")
        node = compose(self._overrides(option))[option.group]
        schema = manager().schema(option.group, node["kind"], node["provider"])
        silent = [f.name for f in schema_fields(schema) if not f.doc]
        assert not silent, f"no docstring under {', '.join(silent)} of {schema.__name__}"

    def test_survives_a_yaml_round_trip(self, option: OptionFile) -> None:
        import yaml

        config = compose(self._overrides(option))
        assert yaml.safe_load(yaml.safe_dump(config)) == config

    # ---- running ----

    def test_runs_and_repeats(self, experiment: OptionFile, tmp_path: Path) -> None:
        overrides = [f"experiment={experiment.name}", *self.smoke.get(experiment.name, ()), "run.device=cpu"]
        start = time.perf_counter()
        first = self._run(overrides, tmp_path / "first")
        seconds = time.perf_counter() - start
        second = self._run(overrides, tmp_path / "second")
        assert seconds < 60, f"{seconds:.0f} s; name overrides in `smoke` that make it small"
        assert first.metrics, "no metrics"
        assert all(math.isfinite(value) for value in first.metrics.values() if value is not None), first.metrics
        assert all(math.isfinite(row["loss"]) for row in first.history if "loss" in row), "a loss that is not finite"
        untimed = {k: v for k, v in first.metrics.items() if not _is_timing(k, first.units)}
        assert untimed == {k: v for k, v in second.metrics.items() if k in untimed}, "same seed, other metrics"

    def _run(self, overrides: Sequence[str], folder: Path) -> Any:
        from ..pipeline import run
        from ..results import read_result

        run([*overrides, f"run.dir={folder}"])
        return read_result(folder)

    def test_saved_model_answers_as_before(self, experiment: OptionFile, tmp_path: Path) -> None:
        """Weights after training, saved and loaded into a fresh model, give the same logits."""
        overrides = [f"experiment={experiment.name}", *self.smoke.get(experiment.name, ()), "run.device=cpu"]
        checked = check(compose(overrides))
        run = run_context(tmp_path / "run", checked.seed)
        verbs = manager().verbs(checked.providers, also=[self.plugin])
        data, model = load(overrides, run)
        objective = verbs.objective(checked.options["objective"].value, run)
        trained = verbs.train(checked.options["training"].value, model, data, objective, run).model
        trained.model.eval()
        if not callable(getattr(trained.model, "save_pretrained", None)):
            pytest.skip("the trained model is no transformers or PEFT model")
        self.save_model(trained.model, tmp_path / "saved")
        _, fresh = load(overrides, run_context(tmp_path / "again", checked.seed))
        loaded = self.load_model(fresh.model, trained.model, tmp_path / "saved").eval()
        split = next(iter(data.splits))
        features = data.encode(split, trained)
        batch = data.collate(trained)([features[i] for i in range(min(2, len(features)))])
        assert _logits(loaded, batch).equal(_logits(trained.model, batch)), "the loaded model answers otherwise"

    def save_model(self, model: Any, folder: Path) -> None:
        """Write the trained model. Replace both together where a plugin has its own format."""
        model.save_pretrained(folder)

    def load_model(self, fresh: torch.nn.Module, trained: torch.nn.Module, folder: Path) -> torch.nn.Module:
        """The saved model: adapters on the `fresh` base model, or the whole model."""
        if hasattr(trained, "peft_config"):
            from peft import PeftModel

            return PeftModel.from_pretrained(fresh, folder)
        return type(trained).from_pretrained(folder)  # type: ignore[attr-defined,no-any-return]

    @pytest.mark.gpu
    def test_runs_on_a_gpu(self, experiment: OptionFile, tmp_path: Path) -> None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        overrides = [f"experiment={experiment.name}", *self.smoke.get(experiment.name, ()), "run.device=cuda"]
        torch.cuda.reset_peak_memory_stats()
        result = self._run(overrides, tmp_path / "run")
        assert all(math.isfinite(value) for value in result.metrics.values() if value is not None)
        assert torch.cuda.max_memory_allocated() < 8 * 2**30, "a smoke run takes more than 8 GiB"

    # ---- inertness ----

    def test_installed_and_unused_changes_nothing(self, tmp_path: Path) -> None:
        """The core's smoke experiment is the same, byte for byte, with the plugin and without."""
        told = []
        for name, allowed in (("without", ""), ("with", self.plugin)):
            env = {"FASCICLE_PLUGINS": allowed}
            shown = run_fascicle("run", "experiment=smoke", "--cfg", "job", "--resolve", env=env)
            ran = run_fascicle("run", "experiment=smoke", f"run.dir={tmp_path / name}", "run.device=cpu", env=env)
            assert shown.returncode == ran.returncode == 0, shown.stderr + ran.stderr
            result = json.loads((tmp_path / name / "result.json").read_text(encoding="utf-8"))
            told.append(
                (shown.stdout, json.dumps({k: result[k] for k in ("metrics", "history", "config", "identity")}))
            )
        assert _without_times(told[0]) == _without_times(told[1])


def _without_times(told: tuple[str, str]) -> tuple[str, str]:
    return told[0], re.sub(r'"[a-z_]*(seconds|per_second)": [0-9.e-]+', '""', told[1])


def _is_timing(name: str, units: Mapping[str, str]) -> bool:
    """Times and speeds differ from run to run."""
    return bool(re.search(r"second|speed|latency|time", name)) or "s" in re.split(r"\W+", units.get(name, ""))


def _readme(dist: metadata.Distribution) -> str:
    told = dist.metadata
    return str(told.get_payload() or told.get("Description", ""))  # type: ignore[attr-defined]


def _logits(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    import torch

    with torch.no_grad():
        logits = model(**batch).logits
    assert isinstance(logits, torch.Tensor)
    return logits
