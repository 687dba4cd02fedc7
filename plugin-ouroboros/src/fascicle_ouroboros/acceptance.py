"""How much of a draft model's text a target accepts, exactly and cheaply, and what that is worth on this machine.

At greedy decoding an accepted draft is the target's own text, so one pass of the draft model over that text tells at each position
whether it would have drafted the next token; the rounds of speculative decoding follow from these matches alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from fascicle.errors import ConfigError
from fascicle.hf.decoding import clock
from fascicle.objects import Block, Metrics, Section

from .draft import fitting, last_logits, own_outputs
from .models import check_vocabulary
from .state import ModelState, Verification
from .tree import ROOT, DraftTree

if TYPE_CHECKING:
    from torch import Tensor

    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel

    from .draft_options import OuroborosAcceptance

__all__ = ["TARGET", "Acceptance", "PassCosts", "evaluate", "measure_acceptance", "rounds", "time_passes"]

TARGET = "ouroboros_target"
"""In `LoadedModel.extra` of a draft model that was made in a run: the `LoadedModel` that it drafts for."""


def rounds(matches: Sequence[bool], gamma: int, *, ended: bool = False) -> list[tuple[int, int]]:
    """Drafted and accepted tokens of each round of greedy speculative decoding.

    Args:
        matches: whether the draft model foretells each token of the text after the first, which the prompt's pass gives.
        gamma: tokens drafted per round, as far as they could still be written.
        ended: the text's last token is an end token, so that it may be drafted; a text that was cut has its last from the target.

    Example:
        >>> rounds([True, True, False, True, True, True], gamma=2)
        [(2, 2), (2, 2)]
    """
    at, found = 0, []
    while at < len(matches):
        proposed = min(gamma, len(matches) - at - (not ended))
        accepted = next((i for i in range(proposed) if not matches[at + i]), proposed)
        found.append((proposed, accepted))
        at += accepted + 1
    return found


@dataclass(kw_only=True)
class Acceptance:
    """Counts over texts; one entry of each list per prompt."""

    gamma: int
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    forwards: list[int] = field(default_factory=list)
    """Passes of the target after the prompt's."""
    tokens: list[int] = field(default_factory=list)
    """Tokens that these passes wrote: the text without its first."""
    matched: list[int] = field(default_factory=list)
    """Tokens that the draft model would have foretold, whether or not a draft reached them."""
    overlap: list[float] = field(default_factory=list)
    """Σ min(p, q), summed over these tokens: what sampling at temperature 1 would accept."""
    by_depth: list[int] = field(default_factory=list)
    """At index d - 1: rounds that accepted at least d tokens."""

    def values(self) -> dict[str, float]:
        """The measures, over all texts together.

        Example:
            >>> one = Acceptance(
            ...     gamma=2, drafted=[4], accepted=[3], forwards=[2], tokens=[5], matched=[3], overlap=[2.5]
            ... )
            >>> one.values()["acceptance"], one.values()["tokens_per_forward"]
            (0.75, 2.5)
        """
        forwards, tokens = max(1, sum(self.forwards)), max(1, sum(self.tokens))
        return {
            "acceptance": sum(self.accepted) / max(1, sum(self.drafted)),
            "accepted_per_round": sum(self.accepted) / forwards,
            "tokens_per_forward": sum(self.tokens) / forwards,
            "match": sum(self.matched) / tokens,
            "overlap": sum(self.overlap) / tokens,
        }


@torch.no_grad()
def measure_acceptance(
    target: Any,
    draft: Any,
    prompts: Sequence[Sequence[int]],
    *,
    gamma: int,
    max_new_tokens: int = 64,
    batch_size: int = 16,
) -> Acceptance:
    """Let `target` continue the prompts greedily, and count what `draft` would have drafted of it in rounds of `gamma`.

    Args:
        target: a decoder-only language model.
        draft: another one that numbers tokens alike.
        prompts: token ids.
        gamma: tokens drafted per round.
        max_new_tokens: tokens per text at most.
        batch_size: texts at once.

    Raises:
        VocabularyError: the models do not number tokens alike.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> net = LlamaForCausalLM(LlamaConfig(vocab_size=32, eos_token_id=None, **sizes)).eval().double()
        >>> measure_acceptance(net, net, [[1, 5, 9]], gamma=3, max_new_tokens=9).values()["tokens_per_forward"]
        4.0
    """
    check_vocabulary(target, draft)
    texts = own_outputs(target, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)
    ends = target.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
    found = Acceptance(gamma=gamma, by_depth=[0] * gamma)
    device = next(target.parameters()).device
    for start in range(0, len(texts), batch_size):
        rows = range(start, min(start + batch_size, len(texts)))
        whole = [list(prompts[i]) + texts[i] for i in rows]
        longest = max(map(len, whole))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in whole])  # (B, L)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in whole])
        keep = longest - min(len(prompts[i]) for i in rows)
        theirs, ours = (_logits(model, ids, mask, keep, device) for model in (target, draft))
        size = min(theirs.shape[-1], ours.shape[-1])
        for at, i in enumerate(rows):
            first = len(prompts[i]) - (longest - keep)
            columns = slice(first, first + len(texts[i]) - 1)  # each foretells a token after the text's first
            drawn = torch.tensor(texts[i][1:], device=device)
            guesses = ours[at, columns, :size].argmax(-1)
            matches = [bool(m) for m in guesses == drawn]
            p, q = (F.softmax(x[at, columns].float(), dim=-1)[:, :size] for x in (theirs, ours))
            told = rounds(matches, gamma, ended=bool(texts[i]) and texts[i][-1] in stops)
            found.drafted.append(sum(proposed for proposed, _ in told))
            found.accepted.append(sum(accepted for _, accepted in told))
            found.forwards.append(len(told))
            found.tokens.append(len(matches))
            found.matched.append(sum(matches))
            found.overlap.append(float(torch.minimum(p, q).sum()))
            for _, accepted in told:
                for depth in range(accepted):
                    found.by_depth[depth] += 1
    return found


def _logits(model: Any, ids: Tensor, mask: Tensor, columns: int, home: torch.device) -> Tensor:
    device = next(model.parameters()).device
    return last_logits(model, {"input_ids": ids.to(device), "attention_mask": mask.to(device)}, columns).to(home)


@dataclass(frozen=True, kw_only=True)
class PassCosts:
    """Median seconds of one pass with a text in the cache."""

    target: float
    """One token through the target: plain decoding."""
    verify: float
    """γ + 1 tokens through the target: one round's verification."""
    draft: float
    """One token through the draft model."""

    def speedup(self, gamma: int, tokens_per_forward: float) -> float:
        """Predicted ratio to plain decoding, passes alone: tokens per round over the round's cost in passes of the target.

        Example:
            >>> PassCosts(target=1.0, verify=1.0, draft=0.25).speedup(4, 3.0)
            1.5
        """
        return tokens_per_forward * self.target / (gamma * self.draft + self.verify)


def time_passes(target: Any, draft: Any, text: Sequence[int], *, gamma: int, repeats: int = 9) -> PassCosts:
    """Time passes of both models behind `text`, in turns."""
    how = Verification("chain")
    states = {"target": ModelState(target, how), "verify": ModelState(target, how), "draft": ModelState(draft, how)}
    seconds: dict[str, list[float]] = {name: [] for name in states}
    *before, last = text
    for turn in range(repeats + 1):  # the first reads the text and warms up
        for name, state in states.items():
            tree = DraftTree()
            if name == "verify":
                tree.extend(ROOT, [last] * gamma, "draft")
            if not turn:
                state.forward(before, DraftTree())
                state.keep([])
            started = clock(state.device)
            state.forward([last], tree)
            seconds[name].append(clock(state.device) - started)
            state.keep([])
            state.rollback(len(before))
    return PassCosts(**{name: statistics.median(times[1:]) for name, times in seconds.items()})


# ---- answer to `fascicle_evaluate` ---------------------------------------------------------------------------------------


def evaluate(cfg: OuroborosAcceptance, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
    """Answer of `fascicle_evaluate`: acceptance, tokens per pass, and the cost of passes.

    Raises:
        ConfigError: no draft model is named, and none was made.
        VocabularyError: the models do not number tokens alike.
        DataError: no such split, or no rows.
    """
    from fascicle.hf.evaluation import on_main

    return on_main(run, lambda: _measured(cfg, model, data, run))


def _measured(cfg: OuroborosAcceptance, model: LoadedModel, data: Data, run: RunContext) -> Metrics:
    from fascicle.hf.evaluation import rows_of
    from fascicle.hf.generation import prompts

    target, draft = _pair(cfg, model, run)
    _, features = rows_of(cfg, data, target)
    asked = fitting(
        [list(row["input_ids"]) for row in prompts(features, target)],
        target.extra.get("max_length"),
        cfg.max_new_tokens,
    )
    for net in (target.model, draft):
        net.eval()
    found = measure_acceptance(
        target.model, draft, asked, gamma=cfg.gamma, max_new_tokens=cfg.max_new_tokens, batch_size=cfg.batch_size
    )
    costs = time_passes(
        target.model, draft, sorted(asked, key=len)[len(asked) // 2], gamma=cfg.gamma, repeats=cfg.repeats
    )
    values = found.values()
    values |= {
        "draft_time_ratio": costs.draft / costs.target,
        "verify_time_ratio": costs.verify / costs.target,
        "predicted_speedup": costs.speedup(cfg.gamma, values["tokens_per_forward"]),
        "row_acceptance": statistics.mean(_row_acceptance(found)),
    }
    return Metrics(
        values=values,
        primary="acceptance",
        higher_is_better={name: not name.endswith("_time_ratio") for name in values},
        per_example={"row_acceptance": _row_acceptance(found)},
        units={"accepted_per_round": "tokens", "tokens_per_forward": "tokens"},
        sections=[_section(found, costs)],
    )


def _pair(cfg: OuroborosAcceptance, model: LoadedModel, run: RunContext) -> tuple[LoadedModel, Any]:
    target = model.extra.get(TARGET)
    if cfg.draft:
        from fascicle.hf.model_options import HfCausalLm
        from fascicle.hf.models import load_model

        return target or model, load_model(HfCausalLm(sources=cfg.draft), run).model
    if target is None:
        raise ConfigError(
            "evaluation.draft: got no draft model, expected a folder or hub id; set evaluation.draft=[FOLDER], or choose "
            "training=ouroboros_draft"
        )
    return target, model.model


def _row_acceptance(found: Acceptance) -> list[float]:
    return [a / d if d else 0.0 for a, d in zip(found.accepted, found.drafted, strict=True)]


def _section(found: Acceptance, costs: PassCosts) -> Section:
    forwards = max(1, sum(found.forwards))
    depths = {
        "labels": [f"{depth + 1} or more" for depth in range(found.gamma)],
        "series": {"share of rounds": [count / forwards for count in found.by_depth]},
    }
    table = {
        "columns": ["pass", "tokens", "milliseconds", "of one token of the target"],
        "rows": [
            ["target", 1, 1e3 * costs.target, 1.0],
            ["target, verifying", found.gamma + 1, 1e3 * costs.verify, costs.verify / costs.target],
            ["draft model", 1, 1e3 * costs.draft, costs.draft / costs.target],
        ],
    }
    return Section(
        title="Acceptance of the draft model",
        blocks=[
            Block(kind="bars", title="Accepted tokens per round", data=depths),
            Block(kind="table", title="What passes cost here", data=table),
        ],
        plugin="ouroboros",
    )
