"""Models of the core's own provider: a causal LM, a classifier or an encoder-decoder of transformers, or a tiny random one.

What can be wrong is found from the configuration files, before weights are read. Weights are safetensors or GGUF, never pickles;
code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from ..errors import ConfigError, SourceError
from ..objects import LoadedModel
from ..sources import resolve, weight_files
from .encoding import longest_input
from .gguf import converted, find_gguf
from .model_options import HfCausalLm, HfClassifier, HfSeq2Seq, Tiny

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from ..context import RunContext
    from ..sources import Resolved

__all__ = [
    "load_causal_lm",
    "load_classifier",
    "load_model",
    "load_seq2seq",
    "load_tiny",
    "quiet_loading",
    "seeded",
]

logger = logging.getLogger(__name__)

DECODERS_OF_ENCODERS = (
    "bert",
    "roberta",
    "electra",
    "camembert",
    "xlm-roberta",
    "megatron-bert",
    "roformer",
    "big_bird",
    "data2vec-text",
)
"""transformers lists these among the causal LMs, for use as decoders; their checkpoints hold none."""


TOKENIZER_FILES = ("tokenizer.json", "tekken.json", "vocab.*", "*.model", "*.tiktoken")


@dataclass(kw_only=True)
class _Found:
    """A source, looked into: nothing but small files is read yet."""

    option: str
    resolved: Resolved
    weights: Path
    """The folder, or the GGUF file."""
    folder: Path | None
    """The folder to load from; None where a GGUF file could not be kept as one."""
    config: PretrainedConfig
    in_memory: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    @property
    def fingerprint(self) -> str:
        import dataclasses

        return dataclasses.replace(self.resolved, path=self.weights).fingerprint()


def load_model(options: HfCausalLm | HfClassifier | HfSeq2Seq | Tiny, run: RunContext) -> LoadedModel:
    """Load the model of one option, on `run.device`, in eval mode. The answer of the core's `fascicle_load_model`.

    `run.num_labels` and `run.label_names`, which the pipeline sets from the data, decide a classifier's head.

    Raises:
        SourceError: no source has the weights, or what it has cannot be used.
        ConfigError: the option does not fit the checkpoint or the data.

    >>> import pathlib, tempfile
    >>> from fascicle.testing.helpers import run_context
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> load_model(Tiny(architecture="bart"), run_context(folder)).task
    'seq2seq'
    """
    if isinstance(options, Tiny):
        return load_tiny(options, run)
    if options.fallback is not None:
        try:
            resolve(options.sources, f"model {options.name or ''}".strip())
        except SourceError as error:
            run.logger.warning("%s\nGoing on with a tiny random model instead, as model.fallback says", error)
            return load_tiny(options.fallback, run)
    if isinstance(options, HfCausalLm):
        return load_causal_lm(options, run)
    if isinstance(options, HfClassifier):
        return load_classifier(options, run)
    if isinstance(options, HfSeq2Seq):
        return load_seq2seq(options, run)
    raise ConfigError(f"model: {type(options).__name__} is none of the core's model options")


def load_causal_lm(options: HfCausalLm, run: RunContext) -> LoadedModel:
    """Load a decoder-only language model.

    Raises:
        SourceError, ConfigError: see `load_model`.

    >>> import pathlib, tempfile
    >>> from fascicle.testing.helpers import run_context
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> from fascicle.hf.tiny import build_tiny
    >>> for part in build_tiny(Tiny(architecture="llama"), seed=1):
    ...     _ = part.save_pretrained(folder)
    >>> load_causal_lm(HfCausalLm(sources=[str(folder)]), run_context(folder)).extra["max_length"]
    256
    """
    found = _find(options, "hf_causal_lm")
    kind = found.config.model_type
    if found.config.is_encoder_decoder:
        raise ConfigError(f"model.kind=hf_causal_lm: {found.weights} holds an encoder-decoder ({kind}); use hf_seq2seq")
    if type(found.config) not in AutoModelForCausalLM._model_mapping or kind in DECODERS_OF_ENCODERS:
        raise ConfigError(
            f"model.kind=hf_causal_lm: {found.weights} holds a {kind}, which continues no text; use hf_classifier"
        )
    if found.in_memory is not None:
        model, tokenizer = found.in_memory
        model = _placed(model, "cpu", run)
    else:
        model, tokenizer = _from_pretrained(AutoModelForCausalLM, found, options, run), _tokenizer(found)
    _pad_with_end(model, tokenizer)
    return _ready(model, tokenizer, "causal_lm", found, options, run)


def load_seq2seq(options: HfSeq2Seq, run: RunContext) -> LoadedModel:
    """Load an encoder-decoder.

    Raises:
        SourceError, ConfigError: see `load_model`.

    >>> import pathlib, tempfile
    >>> from fascicle.testing.helpers import run_context
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> from fascicle.hf.tiny import build_tiny
    >>> for part in build_tiny(Tiny(architecture="bart"), seed=1):
    ...     _ = part.save_pretrained(folder)
    >>> load_seq2seq(HfSeq2Seq(sources=[str(folder)]), run_context(folder)).task
    'seq2seq'
    """
    found = _find(options, "hf_seq2seq")
    if type(found.config) not in AutoModelForSeq2SeqLM._model_mapping:
        raise ConfigError(
            f"model.kind=hf_seq2seq: {found.weights} holds a {found.config.model_type}, which is no encoder-decoder; "
            "use hf_causal_lm or hf_classifier"
        )
    model = _from_pretrained(AutoModelForSeq2SeqLM, found, options, run)
    return _ready(model, _tokenizer(found), "seq2seq", found, options, run)


def load_classifier(options: HfClassifier, run: RunContext) -> LoadedModel:
    """Load an encoder with a classification head, or without one (`head: none`).

    A head that the checkpoint lacks, or whose size is another, is drawn from the run's seed.

    Raises:
        SourceError, ConfigError: see `load_model`; also where the number of classes is known from nowhere, or the checkpoint's
            classes are the data's in another order.

    >>> import pathlib, tempfile
    >>> from fascicle.testing.helpers import run_context
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> from fascicle.hf.tiny import build_tiny
    >>> for part in build_tiny(Tiny(architecture="bert"), seed=1):
    ...     _ = part.save_pretrained(folder)
    >>> load_classifier(HfClassifier(sources=[str(folder)], num_labels=3), run_context(folder)).model.num_labels
    3
    """
    found = _find(options, "hf_classifier")
    config: Any = found.config
    if options.dropout is not None:
        for name in ("classifier_dropout", "hidden_dropout_prob", "seq_classif_dropout", "dropout"):
            if hasattr(config, name):
                setattr(config, name, options.dropout)
                break
    if options.head == "none":
        if type(config) not in AutoModel._model_mapping:
            raise ConfigError(f"model.head=none: transformers knows no bare encoder of a {config.model_type}")
        model = _from_pretrained(AutoModel, found, options, run, head="pooler")
        return _ready(model, _tokenizer(found), "encoder", found, options, run)
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise ConfigError(
            f"model.kind=hf_classifier: {found.weights} holds a {config.model_type}, for which transformers has no "
            "classification head; use head=none or another model"
        )
    _set_classes(config, options.num_labels, run, found.weights)
    model = _from_pretrained(AutoModelForSequenceClassification, found, options, run, head="head")
    tokenizer = _tokenizer(found)
    _pad_with_end(model, tokenizer)
    return _ready(model, tokenizer, "classification", found, options, run)


def load_tiny(options: Tiny, run: RunContext) -> LoadedModel:
    """Make a tiny random model and its tokenizer; the same seed gives the same weights.

    Raises:
        ConfigError: the number of classes is known from nowhere.

    >>> import pathlib, tempfile
    >>> from fascicle.testing.helpers import run_context
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> load_tiny(Tiny(num_labels=3), run_context(folder, seed=7)).source
    'random(seed=7)'
    """
    from .tiny import build_tiny, state_fingerprint, task_of

    seed = run.seed if options.seed is None else options.seed
    labels = None
    if options.architecture == "bert" and options.head == "classification":
        labels = _number_of_labels(options.num_labels, run)
    model, tokenizer = build_tiny(options, seed=seed, num_labels=labels)
    if labels is not None:
        _name_classes(model.config, labels, run)
    model = _placed(model, run.device, run)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        task=task_of(options),
        name=f"tiny-{options.architecture}",
        source=f"random(seed={seed})",
        fingerprint=state_fingerprint(model),
        extra={"max_length": options.max_length},
    )


# ---- before weights are read ---------------------------------------------------------------------------------------------


def _find(options: HfCausalLm | HfClassifier | HfSeq2Seq, option: str) -> _Found:
    resolved = resolve(options.sources, f"model {options.name or option}")
    path = resolved.path
    assert path is not None, "a model is always fetched to this machine"
    gguf = find_gguf(path, options.gguf_file)
    in_memory = None
    folder: Path | None = path
    if gguf is not None:
        if not isinstance(options, HfCausalLm):
            raise ConfigError(
                f"model.kind={option}: {gguf.name} is a GGUF file, which holds a causal language model; use hf_causal_lm"
            )
        made = converted(gguf)
        folder, in_memory = (made, None) if isinstance(made, Path) else (None, made)
    elif not (path / "config.json").is_file():
        raise SourceError(f"{path} holds no config.json, so it is no transformers model; it holds {_listing(path)}")
    elif not any(path.glob("*.safetensors")):
        raise SourceError(
            f"{path} holds no safetensors; pickled weights (.bin, .pt) are never read. It holds {_listing(path)}; "
            "convert them with transformers: model.save_pretrained(folder)"
        )
    config = in_memory[0].config if in_memory is not None else _config(folder or path)
    if not isinstance(options, HfCausalLm) and options.attention_dropout is not None:
        _drop_attention(config, options.attention_dropout)
    return _Found(
        option=option, resolved=resolved, weights=gguf or path, folder=folder, config=config, in_memory=in_memory
    )


def _listing(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir())
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _config(folder: Path) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{folder}/config.json cannot be used: {error}") from error
    return config


def _drop_attention(config: PretrainedConfig, share: float) -> None:
    names = [
        name for name in ("attention_dropout", "attention_probs_dropout_prob", "attn_dropout") if hasattr(config, name)
    ]
    if not names:
        raise ConfigError(
            f"model.attention_dropout: got {share}, but a {config.model_type} has no such dropout apart; leave it null"
        )
    setattr(config, names[0], share)


def _number_of_labels(told: int | None, run: RunContext) -> int:
    number = told if told is not None else run.num_labels
    if number is None:
        raise ConfigError(
            "model.num_labels: the data has no classes to count, got null; give the number, or choose data with labels"
        )
    if run.label_names and number < len(run.label_names):
        raise ConfigError(
            f"model.num_labels={number}: the data has {len(run.label_names)} classes ({', '.join(run.label_names[:8])}); "
            "set it to null, or to at least as many"
        )
    return number


def _set_classes(config: Any, told: int | None, run: RunContext, where: Path) -> None:
    """The size of the head and the names of the classes, by the data; the checkpoint's own order must not contradict it."""
    number = _number_of_labels(told, run)
    known = [str(config.id2label[i]) for i in sorted(config.id2label)] if config.id2label else []
    ours = [str(name) for name in run.label_names or []]
    fold = str.casefold
    if (
        len(known) == len(ours)
        and sorted(map(fold, known)) == sorted(map(fold, ours))
        and list(map(fold, known)) != list(map(fold, ours))
    ):
        raise ConfigError(
            f"model: the classes of {where} are {known}, those of the data {ours}: the same in another order, so every answer "
            f"would be read wrongly; set data.label_names={known}"
        )
    config.num_labels = number
    _name_classes(config, number, run)


def _name_classes(config: Any, number: int, run: RunContext) -> None:
    names = [str(name) for name in run.label_names or []]
    if len(names) == number:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
    if run.label_names is not None and not names:
        config.problem_type = "regression"
    elif number > 1:
        config.problem_type = "single_label_classification"


# ---- reading weights -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside the block; the global random state is put back afterwards.

    >>> with seeded(3):
    ...     first = torch.rand(2)
    >>> with seeded(3):
    ...     bool((first == torch.rand(2)).all())
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _dtype(run: RunContext) -> torch.dtype:
    dtype = getattr(torch, run.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ConfigError(f"run.dtype: expected float32, bfloat16 or float16, got {run.dtype!r}")
    return dtype


def _placed(model: Any, device: str, run: RunContext) -> Any:
    """On the device, in the run's dtype, in eval mode."""
    return model.to(device=device, dtype=_dtype(run)).eval()


def _from_pretrained(auto: Any, found: _Found, options: Any, run: RunContext, head: str | None = None) -> Any:
    """Read the weights; only a classifier's head or an encoder's pooler may be missing, and is then drawn from the seed."""
    extra = {} if options.attention is None else {"attn_implementation": options.attention}
    try:
        with seeded(run.seed), quiet_loading():
            model, info = auto.from_pretrained(
                found.folder,
                config=found.config,
                dtype=_dtype(run),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=head == "head",
                output_loading_info=True,
                **extra,
            )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise SourceError(f"{found.folder}: transformers cannot load this as {found.option}: {error}") from error
    _check_loading(model, info, found, head)
    return model


def _check_loading(model: Any, info: Any, found: _Found, head: str | None) -> None:
    mismatched = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    missing = sorted({*info["missing_keys"], *mismatched})
    base = model.base_model_prefix + "."
    new = [
        key
        for key in missing
        if (head == "head" and not key.startswith(base)) or (head is not None and "pooler" in key)
    ]
    lost = [key for key in missing if key not in new]
    if lost:
        raise SourceError(
            f"{found.weights} lacks weights of a {type(model).__name__}: {', '.join(lost[:4])}"
            + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
            + f"; choose another kind than {found.option}, or another checkpoint"
        )
    if new:
        logger.info("drawn from the seed, since the checkpoint has none that fits: %s", ", ".join(new))


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' bars and warnings about new heads, which say less than our own checks do.

    >>> with quiet_loading():
    ...     pass
    """
    from transformers.utils import logging as logging_of_transformers

    theirs: Any = logging_of_transformers
    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


def _tokenizer(found: _Found) -> PreTrainedTokenizerBase:
    folder = found.folder or found.weights
    if not any(file for name in TOKENIZER_FILES for file in folder.glob(name)):  # transformers would make an empty one
        raise SourceError(
            f"{folder} holds no tokenizer (looked for {', '.join(TOKENIZER_FILES)}); save it beside the model"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            found.folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise SourceError(f"{found.folder}: its tokenizer cannot be loaded: {error}") from error
    return tokenizer


def _pad_with_end(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """A model without a pad token pads with its end token, which the attention mask and the labels -100 hide."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ConfigError(
                "model: the tokenizer has neither a pad nor an end token; add one to the checkpoint's tokenizer"
            )
        tokenizer.pad_token = tokenizer.eos_token
    for config in (model.config, getattr(model, "generation_config", None)):
        if config is not None and getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id


def _ready(
    model: Any, tokenizer: PreTrainedTokenizerBase, task: str, found: _Found, options: Any, run: RunContext
) -> LoadedModel:
    length = longest_input(model.config, tokenizer)
    if options.max_length is not None:
        if length is not None and options.max_length > length:
            raise ConfigError(
                f"model.max_length={options.max_length}: {found.weights.name} takes at most {length} tokens"
            )
        length = options.max_length
    if length is not None:
        tokenizer.model_max_length = length
    resolved = found.resolved
    return LoadedModel(
        model=_placed(model, run.device, run),
        tokenizer=tokenizer,
        task=task,
        name=options.name or (resolved.repo_id or found.weights.stem).rpartition("/")[2],
        source=resolved.description,
        fingerprint=found.fingerprint,
        extra={"max_length": length, "files": [str(file) for file in weight_files(found.weights)]},
    )
