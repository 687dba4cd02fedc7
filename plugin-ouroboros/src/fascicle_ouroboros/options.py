"""Options of the plugin, typed. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

__all__ = ["DraftingOptions", "Learn", "Ouroboros"]

Learn = Literal["prompt", "output", "rejected", "corrected"]


@dataclass(kw_only=True)
class DraftingOptions:
    """How text is drafted. None of it changes what is written (with `sampling: leviathan`: what is written's distribution).

    >>> DraftingOptions(phrases=5).gamma
    6
    """

    gamma: Annotated[int, Ge(0)] = 6
    """Tokens that the draft model writes per round (γ); the paper takes 4 to 12. More where drafts are mostly accepted; without a
    draft model it means nothing."""
    phrases: Annotated[int, Ge(0)] = 3
    """Phrases of the pool that lengthen a draft, side by side (K, 3 in the paper's code). 1 where tokens are dear; 0: none."""
    beside: Annotated[int, Ge(0)] = 2
    """Phrases, at most K, that are verified beside a draft model's chain as well: they help where the draft is wrong. The paper has
    none; without a draft model it means nothing."""
    draft_phrases: Annotated[int, Ge(0)] = 8
    """Phrases that the draft model verifies in one pass of its own. 0 drafts token by token, as plain speculative decoding."""
    phrase_len: Annotated[int, Interval(ge=1, le=32)] = 8
    """Tokens of a phrase at most; 4 to 6 in the paper's code. More for texts that repeat long passages."""
    orders: list[Annotated[int, Ge(1)]] = field(default_factory=lambda: [3, 2, 1])
    """Tokens of context that a phrase is looked up by, longest first (the paper: 1). Longer contexts are right more often."""
    nodes: Annotated[int, Ge(0)] = 32
    """Drafted tokens that one pass of the target verifies at most; 0 decodes plainly. About 8 on a CPU, 32 or more on a GPU."""
    batch_rows: Annotated[int, Ge(1)] = 8
    """Rows of a batch that one pass verifies together; 1 writes them one after the other. Texts are the same. Each row's attention
    pays for all of them: fewer for long texts."""
    adaptive: bool = True
    """Measure what passes cost (once, about two seconds), draft only as much as pays, and decode plainly where nothing does. False
    drafts the same amount in every round: to compare amounts, or where a pass costs the same whatever it verifies."""
    learn: list[Learn] = field(default_factory=lambda: ["prompt", "output", "rejected", "corrected"])
    """What the pool learns from. The paper's code learns from refused and corrected drafts; prompt and output are ours."""
    sampling: Literal["coupled", "leviathan"] = "coupled"
    """How sampled text is verified. `coupled`: a seed gives one text, whatever drafted it; `leviathan`: the classical rule, which
    accepts a little more of a draft model's tokens and gives the same distribution of texts."""
    per_key: Annotated[int, Ge(1)] = 16
    """Phrases kept for one context; 15 to 20 in the paper's code."""
    max_phrases: Annotated[int, Ge(1)] = 200_000
    """Phrases kept in all, some tens of megabytes; the least recently used go first."""


@dataclass(kw_only=True)
class Ouroboros(DraftingOptions):
    """Decode with Ouroboros: the text of plain decoding, in fewer passes of the target.

    >>> Ouroboros(draft=["./small"]).do_sample
    False
    """

    draft: list[str] = field(default_factory=list)
    """Where the draft model is: local folders or hub ids, the first that exists is taken. None: phrases of the pool alone. It must
    have the target's tokenizer."""
    pool: str | None = None
    """File of a phrase pool to start from. It must be of the target's tokenizer; None starts with an empty one."""
    keep_pool: bool = True
    """Keep what was learnt for the next rows. False starts each row from `pool` alone, so that rows do not help each other."""
    adaptive: bool = False
    """True measures what passes cost and drafts only what pays: sooner on a CPU, but how many passes a run takes then follows the
    machine's mood. False drafts the same amount in every round, so that a run repeats."""
    do_sample: bool = False
    """Draw each token; the draws follow from the run's seed. False takes the likeliest."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Divides the logits when sampling: below 1 sharper, above 1 wilder."""
    top_p: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that together have this probability; 1 takes all."""
    top_k: Annotated[int, Ge(0)] = 0
    """Draw from the k likeliest tokens; 0 takes all."""
    min_new_tokens: Annotated[int, Ge(0)] = 0
    """Tokens to write before the end token is allowed. Set it to the maximum to time texts of equal length."""
    repetition_penalty: Annotated[float, Gt(0)] = 1.0
    """Divides the logits of tokens written before; 1 does nothing, 1.1 to 1.3 where a small model loops."""
    no_repeat_ngram_size: Annotated[int, Ge(0)] = 0
    """Forbid repeating an n-gram of this length; 0 allows all. 3 is usual for summaries."""
