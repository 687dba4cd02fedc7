"""The hooks. Light: torch and transformers are imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fascicle.hookspecs import hookimpl
from fascicle.info import PluginInfo

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Decoder

    from .options import Ouroboros

__all__ = ["fascicle_config_packages", "fascicle_decoder", "fascicle_plugin_info"]


@hookimpl
def fascicle_plugin_info() -> PluginInfo:
    """Who we are."""
    return PluginInfo(
        name="ouroboros",
        title="Lossless speculative decoding that drafts, lengthens and recycles phrases",
        paper=(
            "Zhao, Huang, Han, Xu, Xiao, Zhang, Fang, Zhang, Liu, Sun. Ouroboros: Generating Longer Drafts Phrase by Phrase for "
            "Faster Speculative Decoding. EMNLP 2024."
        ),
        bibtex="""@inproceedings{zhao-etal-2024-ouroboros,
  title = {Ouroboros: Generating Longer Drafts Phrase by Phrase for Faster Speculative Decoding},
  author = {Zhao, Weilin and Huang, Yuxiang and Han, Xu and Xu, Wang and Xiao, Chaojun and Zhang, Xinrong and Fang, Yewei and
    Zhang, Kaihuo and Liu, Zhiyuan and Sun, Maosong},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  year = {2024},
}""",
        options={"decoding/ouroboros": "fascicle_ouroboros.options:Ouroboros"},
    )


@hookimpl
def fascicle_config_packages() -> list[str]:
    """Where the option files are."""
    return ["fascicle_ouroboros.conf"]


@hookimpl
def fascicle_decoder(cfg: Ouroboros, run: RunContext) -> Decoder:
    """Decode with drafted phrases."""
    from .decoding import decoder

    return decoder(cfg, run)
