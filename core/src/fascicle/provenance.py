"""What a result rests on: versions, plugins, machine, and the fingerprints of weights and data."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from .plugins import manager

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .context import RunContext
    from .objects import Data, LoadedModel

__all__ = ["provenance", "utc_now"]

LIBRARIES = ("fascicle", "torch", "transformers", "peft", "accelerate", "datasets", "hydra-core", "numpy")


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(active: Iterable[str], run: RunContext, model: LoadedModel, data: Data) -> dict[str, Any]:
    """Everything needed to say where a number came from; no path of the machine, no user name."""
    import torch

    records = [manager().usable(name) for name in active]
    return {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "plugins": {record.name: f"{record.dist} {record.version}" for record in records},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(run.device) if run.device.startswith("cuda") else run.device,
            "dtype": run.dtype,
            "processes": run.world_size,
        },
        "model": {"name": model.name, "source": model.source, "fingerprint": model.fingerprint},
        "data": {"name": data.name, "source": data.source, "fingerprint": data.fingerprint},
        "overrides": list(run.overrides),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
