"""GGUF weights as an ordinary safetensors folder.

transformers loads a GGUF file into a model that it then neither trains nor saves. Its state dict is copied into a fresh model of
the same class, whose configuration does not speak of quantization: the logits are identical, and everything works. That takes some
seconds, so it is done once per machine and kept in the cache folder, keyed by the sha256 of the GGUF file.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SourceError
from ..sources import cache_folder, file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["converted", "find_gguf", "plain_model"]

logger = logging.getLogger(__name__)

LAYOUT = "gguf-1"
"""Names this way of converting; a change of it leaves old folders alone."""


def find_gguf(path: Path, gguf_file: str | None) -> Path | None:
    """The GGUF file to load from `path`, or None where the folder holds safetensors.

    Raises:
        SourceError: the named file does not exist, or there are several to choose from.
    """
    if path.is_file():
        if path.suffix != ".gguf":
            raise SourceError(
                f"{path}: a model source that is one file must be a .gguf; name the folder of a model instead"
            )
        return path
    if gguf_file is not None:
        file = path / gguf_file
        if not file.is_file():
            raise SourceError(f"model.gguf_file={gguf_file}: {path} holds no such file; it holds {_names(path)}")
        return file
    files = sorted(path.glob("*.gguf"))
    if not files or any(path.glob("*.safetensors")):
        return None
    if len(files) > 1:
        raise SourceError(
            f"{path} holds several GGUF files: {', '.join(f.name for f in files)}; choose one by model.gguf_file"
        )
    return files[0]


def _names(path: Path) -> str:
    return ", ".join(sorted(file.name for file in path.glob("*.gguf"))) or "no .gguf at all"


def converted(gguf: Path) -> Path | tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A safetensors folder (weights, configuration, tokenizer) with what the GGUF file holds.

    The folder is made once; processes that want it at the same time wait for the first. Where the cache folder cannot be written,
    the model and its tokenizer are given as they are in memory.

    Raises:
        SourceError: transformers cannot read the file.
    """
    from filelock import FileLock

    digest = file_sha256(gguf)
    home = cache_folder() / "models"
    folder = home / f"{gguf.stem}-{LAYOUT}-{digest[:16]}"
    if folder.is_dir():
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f"{folder.name}.lock"):
            if not folder.is_dir():
                for left in home.glob(f".{folder.name}.*"):  # by a process that was killed; we hold the lock
                    shutil.rmtree(left, ignore_errors=True)
                _write(folder, *_load(gguf))
    except OSError as error:
        logger.warning(
            "%s cannot be written (%s): the model is converted again in each run; set FASCICLE_CACHE", home, error
        )
        return _load(gguf)
    return folder


def _write(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(gguf: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("reading %s; this is done once per machine", gguf.name)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    except Exception as error:  # the reader raises whatever a damaged file provokes
        raise SourceError(
            f"{gguf}: transformers cannot read this GGUF file ({type(error).__name__}: {error}); "
            "is it whole, and its architecture known?"
        ) from error
    return plain_model(loaded), tokenizer


def plain_model(loaded: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class with the same weights that can be trained and saved."""
    import copy

    import torch

    config: Any = copy.deepcopy(loaded.config)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, name):
            delattr(config, name)
    config.name_or_path = ""
    with torch.random.fork_rng(devices=[]):
        model: PreTrainedModel = type(loaded)(config)
    model.load_state_dict(loaded.state_dict(), strict=True)
    if loaded.generation_config is not None:
        model.generation_config = copy.deepcopy(loaded.generation_config)
    model.train(False)
    return model
