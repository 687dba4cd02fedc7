"""Configurations of guided models: the base's, and what guidance adds.

latent_type      `sentence`, `bernoulli` or `gaussian`
latent_size      L, of a gaussian
guidance_layers  depth of GuidLayer
guidance_mode    guidance by the prior when nothing else is asked for: `map`, `mean`, `sample`, `topk`, `none`
guidance_k       how many places `topk` takes
boundary_ids     ids of tokens that end a sentence
special_ids      ids of tokens that are no text; None takes the begin, end, padding and start tokens
recipe           fields of `Recipe`; None takes its defaults
bow              whether there is a bag-of-words head
"""

from dataclasses import dataclass
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, BartConfig, MBartConfig, PegasusConfig

__all__ = ["GuidedBartConfig", "GuidedMBartConfig", "GuidedPegasusConfig"]

_KEYS = [
    "past_key_values",
    "prior",
    "posterior",
    "gate",
    "latent",
    "nll",
    "kl",
    "parts",
    "encoder_last_hidden_state",
]


@dataclass(kw_only=True)
class GuidanceSettings:
    """What guidance adds to the configuration of any family."""

    latent_type: str = "sentence"
    latent_size: int = 32
    guidance_layers: int = 1
    guidance_mode: str = "map"
    guidance_k: int = 3
    boundary_ids: list[int] | None = None
    special_ids: list[int] | None = None
    recipe: dict[str, Any] | None = None
    bow: bool = False


@strict
class GuidedBartConfig(GuidanceSettings, BartConfig):  # type: ignore[no-untyped-call]
    """BART with guidance.

    >>> GuidedBartConfig(latent_type="bernoulli").latent_type, GuidedBartConfig().model_type
    ('bernoulli', 'faithsum_guided_bart')
    """

    model_type = "faithsum_guided_bart"
    keys_to_ignore_at_inference = _KEYS


@strict
class GuidedMBartConfig(GuidanceSettings, MBartConfig):  # type: ignore[no-untyped-call]
    """mBART with guidance.

    >>> GuidedMBartConfig().guidance_mode
    'map'
    """

    model_type = "faithsum_guided_mbart"
    keys_to_ignore_at_inference = _KEYS


@strict
class GuidedPegasusConfig(GuidanceSettings, PegasusConfig):  # type: ignore[no-untyped-call]
    """PEGASUS with guidance.

    >>> GuidedPegasusConfig().guidance_layers
    1
    """

    model_type = "faithsum_guided_pegasus"
    keys_to_ignore_at_inference = _KEYS


for _config in (GuidedBartConfig, GuidedMBartConfig, GuidedPegasusConfig):
    AutoConfig.register(_config.model_type, _config)
