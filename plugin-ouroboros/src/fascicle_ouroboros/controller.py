"""How much to draft in each round (our choice, the paper tunes γ, W and L by hand for each task and model).

    τ = Σ_{i≤γ} αⁱ + α^γ·β + (1 − α)·β'                           expected tokens of a round
    t = t_T(1 + γ + N, L) + (γ / c)·t_D(1, L)                      its predicted seconds

α: acceptance of a drafted token, β: further tokens from K phrases behind the chain, β': tokens from
phrases beside it, N: the nodes of all phrases, c: tokens of the chain per
forward of the draft, L: tokens in the cache. The plan with the largest τ / t is taken; a plain step (τ = 1, t = t_T(1, L)) where
none beats it by a margin.

Three things keep it honest.
- t_T is measured, size by size. It is not a line in k: on a CPU 2 or 3 tokens can cost more than 6, so a plan says how many nodes
  are worth feeding even if fewer are drafted.
- Phrases are judged in plain steps too, against the token that was written. That costs nothing, so no step is spent on finding out
  whether phrases have become right.
- A ledger holds what drafting may still lose. Every written token pays a small share of a plain step's time in, a round that
  loses against plain steps takes out, one that gains pays in, up to a limit. A round that could overdraw it is not begun,
  whatever is expected of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .costs import median

if TYPE_CHECKING:
    from .costs import CostModel, Curve
    from .pool import Phrase

__all__ = ["PLAIN", "Controller", "FixedController", "Plan"]


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that makes it four times as long to make one
class Plan:
    """What one round drafts.

    >>> Plan(gamma=0, phrases=2, length=4, nodes=6)
    Plan(gamma=0, phrases=2, length=4, nodes=6, beside=0)
    """

    gamma: int
    """Tokens that the draft model writes (γ)."""
    phrases: int
    """Phrases at the end of that chain (K)."""
    length: int
    """Tokens that each of them is cut to."""
    nodes: int
    """Drafted tokens that the target is fed: more are left out, fewer may be padded to it. 0: a plain step."""
    beside: int = 0
    """Phrases beside that chain, from the root: they help where its first token is wrong. Ours; the paper has none."""
    expected: float = field(default=1.0, compare=False, repr=False)
    """Tokens that the round is expected to write (τ)."""
    predicted: float = field(default=0.0, compare=False, repr=False)
    """Seconds that target and draft are expected to take; 0 where nobody predicted."""
    context: int = field(default=0, compare=False, repr=False)
    """Tokens of the text when it was drawn up."""
    reason: str = field(default="", compare=False, repr=False)
    """`best`, `plain`, `ledger` (too much was lost), `anchor` (a plain step to time), `explore`."""


WEIGHT, FADE = 4.0, 0.99
"""Outcomes that a prior counts for, and what is left of an outcome after the next."""
GUESSED = frozenset(("rejected", "corrected"))
"""Sources of phrases that no text contained."""
PLAIN = Plan(gamma=0, phrases=0, length=0, nodes=0)
"""One token, no draft."""


@dataclass
class FixedController:
    """The same amounts in every round, as far as there is room; the paper's way.

    >>> controller = FixedController(gamma=4, phrases=3, length=6, nodes=22)
    >>> controller.plan([], room=100, context=10)
    Plan(gamma=4, phrases=3, length=6, nodes=22, beside=0)
    >>> controller.plan([], room=2, context=10)
    Plan(gamma=2, phrases=0, length=0, nodes=2, beside=0)
    """

    gamma: int = 0
    phrases: int = 3
    length: int = 8
    nodes: int | None = None
    """None: as many as the rest can need."""
    beside: int = 0

    def plan(self, proposals: Sequence[Phrase], room: int, context: int) -> Plan:
        """The amounts of one round.

        Args:
            proposals: phrases for the text as it stands, best first.
            room: how deep a draft may be.
            context: tokens of the text.
        """
        gamma = min(self.gamma, room)
        phrases = self.phrases if self.gamma else min(self.phrases, len(proposals))
        beside = min(self.beside, len(proposals)) if gamma else 0
        if room <= gamma:
            phrases = 0
        length = min(self.length, room if beside else room - gamma) if phrases + beside else 0
        nodes = gamma + phrases * min(length, room - gamma) + beside * length
        nodes = nodes if self.nodes is None else min(nodes, self.nodes)
        if nodes < 1:
            return PLAIN
        return Plan(min(gamma, nodes), phrases, length, nodes, beside, context=context)

    def observe(self, plan: Plan, **outcome: object) -> None:
        """Nothing is learnt."""


# ---- how likely phrases are ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Cell:
    """How often something came true. It borrows from its parent until it knows enough; old outcomes fade."""

    prior: float
    parent: _Cell | None = None
    judged: float = 0.0
    right: float = 0.0

    def rate(self) -> float:
        above = self.parent  # which has none itself
        prior = self.prior if above is None else (above.right + above.prior * WEIGHT) / (above.judged + WEIGHT)
        return (self.right + prior * WEIGHT) / (self.judged + WEIGHT)

    def learn(self, hit: bool) -> None:
        self.judged, self.right = self.judged * FADE + 1.0, self.right * FADE + hit
        above = self.parent
        if above is not None:
            above.judged, above.right = above.judged * FADE + 1.0, above.right * FADE + hit


@dataclass(slots=True)
class _Branch:
    """A proposal, and where it leaves those that rank before it."""

    tokens: Sequence[int]
    order: int
    """Length of its key, 3 for more."""
    streak: int
    """Tokens before it in a row that some phrase foretold, 3 for more."""
    first: _Cell
    """Of its first token, where it shares none with a better one."""
    shared: int = 0
    """Tokens that it has in common with a better one."""
    parent: int = 0
    """Index of that one."""
    depth: int = 0
    """Tokens of it that were judged so far."""


class _Rates:
    """Acceptance of phrases, learnt from every token that was written, whether phrases were verified or not.

    First tokens are told apart by the key's length, the rank among those that begin otherwise, the source, and how many tokens
    before were foretold (a copied passage mostly goes on); further tokens by depth; and the token at which a phrase leaves a
    better one by itself.
    """

    FIRST = (0.2, 0.35, 0.5)
    RANK = (1.0, 0.3, 0.15)
    NEXT = 0.7
    INSTEAD = 0.2

    def __init__(self) -> None:
        self._cells: dict[tuple[object, ...], _Cell] = {}
        self._onwards: dict[tuple[int, int], list[float]] = {}

    def branches(self, proposals: Sequence[Phrase], streak: int) -> list[_Branch]:
        """Phrases as they divide, best first."""
        branches: list[_Branch] = []
        begins: set[int] = set()
        rank = 0
        for phrase in proposals:
            tokens, shared, parent = phrase.tokens, 0, 0
            order = n if (n := len(phrase.key)) < 3 else 3
            if tokens[0] in begins:
                for i, better in enumerate(branches):
                    if (m := _common(tokens, better.tokens)) > shared:
                        shared, parent = m, i
            begins.add(tokens[0])
            name = (order, rank, streak, phrase.source in GUESSED)
            first = self._cells.get(name)
            if first is None:
                prior = self.FIRST[order - 1] * self.RANK[rank]
                first = self._cells[name] = _Cell(prior, self._cell(("first", order, rank), prior))
            branches.append(_Branch(tokens, order, streak, first, shared, parent))
            if not shared and rank < 2:
                rank += 1
        return branches

    def survivals(self, branches: Sequence[_Branch]) -> list[list[float]]:
        """P(the first d tokens of each phrase are what the target writes), d = 1, 2, ..."""
        out: list[list[float]] = []
        left = 0.98  # what the first tokens of better phrases leave to others
        for branch in branches:
            n = len(branch.tokens)
            if not branch.shared:
                rate = branch.first.rate()
                a = rate if rate < left else left
                left -= a
                out.append([a * p for p in self._onward(branch, n)])
                continue
            alive = out[branch.parent][: branch.shared]
            p, a = alive[-1], 0.0
            for d in range(branch.shared, n):
                if d <= 4 or d <= branch.shared + 1:
                    a = self._further(branch, d).rate()
                p *= a
                alive.append(p)
            out.append(alive)
        return out

    def _onward(self, branch: _Branch, n: int) -> list[float]:
        """P(the first d tokens are right | the first is), d = 1 ... n. Kept until something about further tokens is learnt."""
        name = branch.order, branch.streak
        known = self._onwards.get(name)
        if known is None or len(known) < n:
            p, known = 1.0, [1.0]
            for d in range(1, n):
                p *= self._further(branch, d).rate()
                known.append(p)
            self._onwards[name] = known
        return known if len(known) == n else known[:n]

    def _further(self, branch: _Branch, d: int) -> _Cell:
        """The cell of token d = 1, 2, ... of a phrase."""
        order, streak = branch.order, branch.streak
        if d == branch.shared:
            return self._cell(("instead", order, streak), self.INSTEAD, ("instead", order))
        d = min(d, 4)
        return self._cell(("next", d, order, streak), self.NEXT, ("next", d))

    def _cell(self, name: tuple[object, ...], prior: float, parent: tuple[object, ...] = ()) -> _Cell:
        cell = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = _Cell(prior, self._cell(parent, prior) if parent else None)
        return cell

    def learn(self, branch: _Branch, d: int, hit: bool) -> None:
        """Token d (0, 1, ...) of a phrase was judged."""
        if d < branch.shared:
            return  # the better phrase stands for it
        if d:
            self._further(branch, d).learn(hit)
            self._onwards.clear()
        else:
            branch.first.learn(hit)


# ---- the controller ------------------------------------------------------------------------------------------------------


class Controller:
    """Chooses each round's amounts by measured cost and observed acceptance. The same observations give the same plans.

    However bad the drafts, the time is at most `1 + loss` that of plain decoding, and `grace` tokens' time once (`credit` tokens'
    after a text on which drafting gained): see the module's text. One controller serves one thread at a time; it may serve many
    texts, and learns over all of them.

    Args:
        cost: of the target's forwards.
        draft_cost: of the draft model's; None: there is none.
        phrases: phrases a round (K) at most.
        length: tokens of each at most.
        gamma: tokens of the draft model's chain at most.
        nodes: drafted tokens that the target is fed at most.
        beside: phrases beside the draft model's chain at most.
        margin: share by which a plan must beat a plain step.
        loss: share of plain decoding's time that drafting may lose in all.
        grace: tokens' time that it may lose before it has earned anything.
        credit: tokens' time that the ledger holds at most: a text on which drafts fail is given up early, whatever was gained.
        exploration: share of `loss` that may go into trying the draft model again after it had stopped paying.
        anchor: plain steps are timed at least once in so many rounds.

    >>> from fascicle_ouroboros.costs import CostModel
    >>> from fascicle_ouroboros.pool import Phrase
    >>> cost = CostModel({(1, 0): 0.07, (2, 0): 0.13, (6, 0): 0.12, (8, 0): 0.14, (32, 0): 0.18})
    >>> controller, phrase = Controller(cost), Phrase((1, 2, 3, 4), "output", (7, 8, 9))
    >>> controller.plan([], room=50, context=100).reason
    'plain'
    >>> for i in range(40):  # phrases turn out to be right, step after step
    ...     plan = controller.plan([phrase], room=50, context=100 + i)
    ...     controller.observe(plan, fed=1 + plan.nodes, emitted=1, seconds=0.07, tokens=[1])
    >>> controller.plan([phrase], room=50, context=140)  # 4 nodes are drafted; feeding 5 is cheaper
    Plan(gamma=0, phrases=1, length=4, nodes=5, beside=0)
    """

    def __init__(
        self,
        cost: CostModel,
        draft_cost: CostModel | None = None,
        *,
        phrases: int = 3,
        length: int = 8,
        gamma: int = 12,
        nodes: int = 32,
        beside: int = 0,
        margin: float = 0.1,
        loss: float = 0.02,
        grace: float = 1.0,
        credit: float = 6.0,
        exploration: float = 0.5,
        anchor: int = 64,
    ) -> None:
        self.cost, self.draft_cost = cost, draft_cost
        self.phrases, self.length, self.gamma, self.nodes = phrases, length, gamma if draft_cost else 0, nodes
        self.beside = beside
        self.margin, self.loss, self.grace, self.credit = margin, loss, grace, credit
        self.exploration, self.anchor = exploration, anchor
        self._most = max(1, min(nodes + 1, 4 * cost.sizes[-1]))  # tokens that the target is fed
        self._rates = _Rates()
        self._alpha = [0.0, 0.0]  # judged, accepted tokens of the chain; both fade
        self._per_forward = [0.0, 0.0]  # forwards of the draft, tokens they gave
        self._draft_ratio: deque[float] = deque(maxlen=15)
        self._open: list[_Branch] = []
        self._streak = 0  # tokens in a row that some phrase foretold, 3 for more
        self._next_context = -1
        self._untold = False
        self._pads = True
        self._in_a_row = 0
        t1 = cost.seconds(1, cost.contexts[0])
        self._left = grace * t1  # the ledger: seconds that drafting may still lose
        self._left_to_explore = 0.0
        self._forgiven: float | None = None

    # ---- planning ----

    def plan(self, proposals: Sequence[Phrase], room: int, context: int) -> Plan:
        """The amounts of one round.

        Args:
            proposals: phrases for the text as it stands, best first. Give them in plain rounds, too: they are judged for free.
            room: how deep a draft may be.
            context: tokens of the text.
        """
        self._meet(proposals, context)
        most = self._most
        curve, scale = self.cost.unscaled(context, most), self.cost.scale
        t1 = scale * curve.seconds[1]
        plain = Plan(0, 0, 0, 0, 0, 1.0, t1, context, "plain")
        if room < 1 or most < 2:
            return plain
        branches = self._open[len(self._open) - min(len(proposals), self.phrases) :]
        survivals = self._rates.survivals(branches)
        if not self.draft_cost:  # mostly it is plain at a glance that nothing pays
            hoped = 1.0 + sum(map(sum, survivals))
            if hoped * curve.seconds[1] <= (1 + self.margin) * curve.least:
                return plain
        nodes, gains = _trie(branches, survivals, min(self.length, room))
        best = self._best_phrases(nodes, gains, curve, scale, context) or plain
        drafted = (self._best_draft(nodes, gains, curve, scale, room, context) if self.draft_cost else None) or plain
        if _rate(drafted) > _rate(best):
            best = drafted
        if best.nodes and _rate(best) > (1 + self.margin) * _rate(plain):
            if self._in_a_row >= self.anchor:
                return replace(plain, reason="anchor")
            if self._left < best.predicted - t1:
                return replace(plain, reason="ledger")
            return best
        if drafted.nodes and min(self._left, self._left_to_explore) >= drafted.predicted - t1:
            return replace(drafted, reason="explore")
        return plain

    def _best_phrases(
        self, nodes: list[list[int]], gains: list[list[float]], curve: Curve, scale: float, context: int
    ) -> Plan | None:
        """The best number and length of phrases, without the draft model."""
        sizes, seconds = self._sizes(curve), curve.seconds
        best, at = 0.0, (0, 0, 0)
        most = len(seconds) - 2
        for p, (row, expected) in enumerate(zip(nodes, gains, strict=True), 1):
            for l, (n, gain) in enumerate(zip(row, expected, strict=True), 1):
                if n > most:
                    break
                k = sizes[n + 1]
                rate = (1 + gain) / seconds[k]
                if rate > best:
                    best, at = rate, (p, l, k)
        p, l, k = at
        return Plan(0, p, l, k - 1, 0, 1 + gains[p - 1][l - 1], scale * seconds[k], context, "best") if p else None

    def _best_draft(
        self,
        nodes: list[list[int]],
        gains: list[list[float]],
        curve: Curve,
        scale: float,
        room: int,
        context: int,
    ) -> Plan | None:
        """The best chain and what to put behind and beside it.

        Phrases behind the chain are not known yet: those at hand stand for them. Those beside it count where its first token is
        wrong.
        """
        sizes, alpha, most = self._sizes(curve), self.alpha, len(curve.seconds) - 1
        forward = self._draft_forward(context)
        given = (self._per_forward[1] + 4.0) / (self._per_forward[0] + 4.0)
        more = [(0, 0, 0, 0, 0.0, 0.0)]
        if nodes:
            K, L = len(nodes), len(nodes[-1])
            sizes_of = [[0] * L, *nodes]
            gains_of = [[0.0] * L, *gains]
            more += [
                (p, b, l, sizes_of[p][l - 1] + sizes_of[b][l - 1], gains_of[p][l - 1], gains_of[b][l - 1])
                for p in {0, 1, K}
                for b in {0, min(1, self.beside), min(K, self.beside)}
                for l in {(L + 1) // 2, L}
                if p or b
            ]
        best, top, chain = None, 0.0, 1.0
        for gamma in range(1, min(self.gamma, room) + 1):
            chain += alpha**gamma
            drafting = forward * gamma / min(given, gamma)
            for p, beside, l, n, behind, instead in more:
                k = 1 + gamma + n
                if k > most or gamma + l > room:
                    continue
                k = sizes[k]
                tokens = chain + alpha**gamma * behind + (1 - alpha) * instead
                seconds = scale * curve.seconds[k] + drafting
                if tokens / seconds > top:
                    top = tokens / seconds
                    best = Plan(gamma, p, l, k - 1, beside, tokens, seconds, context, "best")
        return best

    def _sizes(self, curve: Curve) -> Sequence[int]:
        """For each number of tokens, how many to feed."""
        return curve.cheapest if self._pads else range(len(curve.seconds))

    def _draft_forward(self, context: int) -> float:
        assert self.draft_cost is not None
        seconds = self.draft_cost.seconds(1, context)
        return seconds * (median(list(self._draft_ratio)) if len(self._draft_ratio) > 2 else 1.0)

    @property
    def alpha(self) -> float:
        """α, acceptance of a token of the draft model's chain, as far as it is known.

        >>> from fascicle_ouroboros.costs import CostModel
        >>> Controller(CostModel({(1, 0): 1.0})).alpha
        0.7
        """
        return (self._alpha[1] + 0.7 * 4.0) / (self._alpha[0] + 4.0)

    # ---- learning ----

    def observe(
        self,
        plan: Plan,
        *,
        fed: int,
        emitted: int,
        seconds: float,
        draft_seconds: float = 0.0,
        draft_forwards: int = 0,
        accepted_chain: int = 0,
        proposals: Sequence[Phrase] = (),
        tokens: Sequence[int] | None = None,
    ) -> None:
        """Learn from one round. Of one that reads a prompt as well, give the predicted seconds.

        Args:
            plan: as `plan` gave it.
            fed: tokens that the target was fed.
            emitted: tokens that were written.
            seconds: of the target's forward.
            draft_seconds: of drafting.
            draft_forwards: of the draft model.
            accepted_chain: tokens of the chain that the target chose itself.
            proposals: phrases that were verified.
            tokens: what was written. With it every proposal is judged, verified or not; without it, less is learnt.
        """
        t1 = self.cost.scale * self.cost.unscaled(plan.context, self._most).seconds[1]
        earned, most = self.loss * emitted * t1, self.credit * t1
        self._left = min(self._left + earned, most)
        if self.draft_cost:
            self._left_to_explore = min(self._left_to_explore + self.exploration * earned, most)
        self._in_a_row = self._in_a_row + 1 if plan.nodes else 0
        if plan.nodes:
            if fed < 1 + plan.nodes:
                self._pads = False
            self._settle(plan, fed, emitted, seconds, draft_seconds, t1)
        self.cost.observe(fed, plan.context, seconds)
        if plan.gamma:
            self._judge_chain(plan, accepted_chain, draft_seconds, draft_forwards)
        if tokens is not None:
            self._follow(tokens)
            self._untold = False
        elif plan.nodes:
            self._guess(plan, emitted - 1 - accepted_chain, accepted_chain, proposals)
            self._untold = False
        else:
            self._untold = emitted == 1
        self._next_context = plan.context + emitted

    def _settle(self, plan: Plan, fed: int, emitted: int, seconds: float, draft_seconds: float, t1: float) -> None:
        """Enter the round into the ledger. Beyond thrice the prediction it is forgiven as a hiccup, unless the next is, too."""
        bearable = 3 * self.cost.seconds(fed, plan.context)
        if plan.gamma and self.draft_cost:
            bearable += 3 * plan.gamma * self._draft_forward(plan.context)
        spent = seconds + draft_seconds
        if spent <= bearable:
            self._forgiven = None
        elif self._forgiven is None:
            self._forgiven, spent = spent - bearable, bearable
        else:
            spent, self._forgiven = spent + self._forgiven, 0.0
        lost = spent - emitted * t1
        self._left = min(self._left - lost, self.credit * t1)
        if plan.reason == "explore":
            self._left_to_explore -= max(lost, 0.0)

    def _judge_chain(self, plan: Plan, accepted: int, seconds: float, forwards: int) -> None:
        judged = accepted + (accepted < plan.gamma)
        self._alpha = [0.97**judged * self._alpha[0] + judged, 0.97**judged * self._alpha[1] + accepted]
        if forwards:
            self._per_forward = [0.95 * self._per_forward[0] + forwards, 0.95 * self._per_forward[1] + plan.gamma]
            if self.draft_cost:
                self._draft_ratio.append(seconds / forwards / self.draft_cost.seconds(1, plan.context))

    def _meet(self, proposals: Sequence[Phrase], context: int) -> None:
        """Take up the proposals of this round; if nobody said what the last one wrote, their key tells its last token."""
        if context != self._next_context:
            self._open, self._streak = [], 0
        elif self._untold:
            self._follow([proposals[0].key[-1] if proposals else -1])
        self._untold = False
        self._open = [o for o in self._open if o.depth][:4]
        self._open += self._rates.branches(proposals[: self.phrases], self._streak)

    def _follow(self, tokens: Sequence[int]) -> None:
        """Judge every open proposal by what was written."""
        for token in tokens:
            following, foretold = [], False
            for branch in self._open:
                hit = branch.tokens[branch.depth] == token
                self._rates.learn(branch, branch.depth, hit)
                if hit:
                    foretold = True
                    branch.depth += 1
                    if branch.depth < len(branch.tokens):
                        following.append(branch)
            self._open = following
            self._streak = min(self._streak + 1, 3) if foretold else 0

    def _guess(self, plan: Plan, followed: int, chain: int, proposals: Sequence[Phrase]) -> None:
        """Nobody said what was written: the best phrase that is long enough has the credit."""
        self._open, self._streak = [], min(followed, 3)
        if plan.gamma and chain < plan.gamma:
            return
        for branch in self._rates.branches(proposals[: self.phrases], 0):
            n = min(len(branch.tokens), plan.length)
            if followed > 0 and n < followed:
                continue
            for d in range(min(followed + 1, n)):
                self._rates.learn(branch, d, d < followed)
            if followed > 0:
                return


def _rate(plan: Plan) -> float:
    return plan.expected / plan.predicted


def _trie(
    branches: Sequence[_Branch], survivals: Sequence[Sequence[float]], longest: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Nodes and expected accepted tokens of the trie of the first p phrases cut to l tokens, at [p - 1][l - 1]."""
    nodes, gains = [], []
    size, gain = [0] * longest, [0.0] * longest
    for branch, alive in zip(branches, survivals, strict=True):
        added, expected, shared, known = 0, 0.0, branch.shared, len(alive)
        for l in range(longest):
            if shared <= l < known:
                added += 1
                expected += alive[l]
            size[l] += added
            gain[l] += expected
        nodes.append(size[:])
        gains.append(gain[:])
    return nodes, gains


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
