"""The rounds of one text: draft phrase by phrase, lengthen with phrases of the pool, verify in one pass, learn from the outcome.

One walk serves both levels: the draft verifies phrases of the pool as the target verifies the draft. At each node a token is chosen
as an ordinary loop would choose it; while the tree holds that token the walk goes on without a forward pass, and the token at
which it leaves the tree is gained as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .controller import Plan
from .tree import ROOT, DraftTree

if TYPE_CHECKING:
    from torch import Tensor

    from .packed import PackedRow
    from .pool import Phrase, PhrasePool
    from .sampling import Picker
    from .state import ModelState
    from .stats import Stats
    from .stopping import Text

    Steps = Generator[tuple[Any, list[int], DraftTree], tuple[Tensor, float], Any]
    """Asks for passes (who reads, unread tokens, tree) and is sent logits and the seconds that they took."""

__all__ = ["Drafting", "Rounds", "together"]

LARGEST_UNREAD = 256
"""Unread tokens up to which a tree is verified in the same pass; a longer prompt is read alone, with the model's fast mask."""


@dataclass
class Drafting:
    """What drafting needs to know of the request.

    >>> Drafting(vocabulary=64).learn
    frozenset()
    """

    vocabulary: int
    """Tokens that the target knows; larger ids are never proposed."""
    phrases: int = 0
    """Phrases to look up for one pass of the target (K)."""
    draft_phrases: int = 0
    """Phrases that the draft model verifies in one of its passes (K of the draft)."""
    draft_nodes: int = 64
    """Tokens that such a pass feeds at most."""
    learn: frozenset[str] = frozenset()
    """Sources that the pool learns from."""
    ends: frozenset[int] = frozenset()
    """End tokens: a draft stops after one."""
    room: Callable[[int], int] = field(default=lambda length: 2**31)
    """Positions that the models can still take at a length of text."""
    processors: Sequence[Any] = ()
    """What the draft's logits pass through. Only raises the acceptance."""


class _Placed(NamedTuple):
    """A phrase in the tree: behind which node, and its own."""

    phrase: Phrase
    at: int
    nodes: list[int]


class Rounds:
    """Writes one text.

    Args:
        text: what is written, and how each token is processed, stopped and streamed.
        seen: the text's tokens as the model sees them: without padding.
        target: the model that decides, fresh or with a first part of the text read.
        draft: the model that drafts, or None.
        pool: phrases, or None.
        controller: how much to draft.
        picker: how tokens are chosen.
        stats: where it is counted.
        drafting: the rest.
    """

    def __init__(
        self,
        text: Text,
        seen: Sequence[int],
        target: ModelState | PackedRow,
        draft: ModelState | PackedRow | None,
        pool: PhrasePool | None,
        controller: Any,
        picker: Picker,
        stats: Stats,
        drafting: Drafting,
    ) -> None:
        self.text, self.seq = text, list(seen)
        self.target, self.draft, self.pool = target, draft, pool
        self.controller, self.picker, self.stats, self.drafting = controller, picker, stats, drafting
        self._waited = 0.0

    def run(self) -> None:
        """Write until a criterion stops. Afterwards the target has read all tokens but the last."""
        _alone(self.steps())

    def steps(self) -> Steps:
        """`run`, pass by pass: whoever drives it does the passes, of one text or of several together."""
        self._learn_text(0, "prompt")
        while not self.text.stopped:
            yield from self._round()

    def _pass(self, state: Any, unread: list[int], tree: DraftTree) -> Steps:
        begin = time.perf_counter()
        rows, seconds = yield state, unread, tree
        self._waited += time.perf_counter() - begin - seconds  # for other texts
        return rows

    def _now(self) -> float:
        """Seconds, on a clock that stands still while other texts are worked on."""
        return time.perf_counter() - self._waited

    def _round(self) -> Steps:
        """One pass of the target: at least one token."""
        begin = self._now()
        start = len(self.seq)
        unread = self.seq[len(self.target.cached) :]
        planned, plan, proposals = self._plan(len(unread))
        looked_up = self._now()
        forwards, fed = (self.draft.forwards, self.draft.fed) if self.draft else (0, 0)
        chain, qs = (yield from self._draft_chain(plan.gamma)) if plan.nodes else ([], [])
        drafted = self._now()
        tree = DraftTree()
        room = self._room()
        trunk = tree.extend(ROOT, chain, "draft", nodes=plan.nodes, depth=room)
        phrases = self._add_phrases(tree, trunk, chain, proposals, plan, room) if plan.nodes else []
        before = self._now()
        rows = yield from self._pass(self.target, unread, tree)
        verified = self._now()
        out, path, likeliest = self._walk(rows, tree, trunk, chain, qs)
        walked = self._now()
        self.target.keep(path[: len(out) - 1])
        if self.draft is not None:
            _meet(self.draft, self.seq, start)
        kept = self._now()
        self._learn_outcome(start, out, path, tree, trunk, phrases, likeliest)
        end = self._now()
        self._count(
            tree,
            path,
            out,
            len(unread),
            plan.predicted if len(unread) == 1 else None,
            verified - before + drafted - looked_up,
        )
        more = (self.draft.forwards - forwards, self.draft.fed - fed) if self.draft else (0, 0)
        self.stats.draft_forwards += more[0]
        self.stats.draft_tokens_fed += more[1]
        spent = self.stats.seconds
        spent["pool"] += looked_up - begin + before - drafted + end - kept
        spent["draft"] += drafted - looked_up
        spent["target"] += verified - before
        spent["walk"] += walked - verified
        spent["kv"] += kept - walked
        # How long reading a prompt takes says nothing about a round; a draft behind it costs about what it would alone.
        reads = len(unread) > 1
        if planned and (not reads or plan.predicted):
            self.controller.observe(
                plan,
                fed=1 + len(tree),
                emitted=len(out),
                seconds=plan.predicted if reads else verified - before,
                draft_seconds=0.0 if reads else drafted - looked_up,
                draft_forwards=0 if reads else more[0],
                accepted_chain=sum(node in trunk for node in path),
                tokens=out,
                proposals=[placed.phrase for placed in phrases],
            )

    # ---- drafting ----

    def _plan(self, unread: int) -> tuple[bool, Plan, list[Phrase]]:
        """Whether the controller was asked, its plan, and phrases for the text as it stands."""
        room = self._room()
        if room < 1 or unread > LARGEST_UNREAD or self.target.how.mode == "plain":
            return False, Plan(gamma=0, phrases=0, length=0, nodes=0), []
        proposals = self._lookup(self.seq, self.drafting.phrases)
        plan: Plan = self.controller.plan(proposals, room, len(self.seq))
        return True, plan, proposals

    def _room(self) -> int:
        """Depth that a draft may have: what lies deeper could not be written any more."""
        left = 2**31 if self.text.max_length is None else self.text.max_length - len(self.text.tokens) - 1
        return max(0, min(left, self.drafting.room(len(self.seq))))

    def _draft_chain(self, gamma: int) -> Steps:
        """Phrase-by-phrase drafting: γ tokens of the draft model in fewer passes, because it verifies phrases of the pool."""
        chain: list[int] = []
        qs: list[Tensor | None] = []
        state, gamma = self.draft, min(gamma, self._room())
        if state is None:
            return chain, qs
        while len(chain) < gamma:
            text = self.seq + chain
            unread = text[len(state.cached) :]
            if max(unread) >= self.drafting.vocabulary:  # a token that the draft model does not know
                break
            tree = DraftTree()
            depth = gamma - len(chain) - 1
            if depth and len(unread) <= LARGEST_UNREAD and state.how.mode != "plain":
                k = self.drafting.draft_phrases if state.how.mode == "tree" else min(1, self.drafting.draft_phrases)
                for phrase in self._lookup(text, k):
                    tree.extend(ROOT, self._known(phrase), phrase.source, nodes=self.drafting.draft_nodes, depth=depth)
            rows = yield from self._pass(state, unread, tree)
            node: int | None = ROOT
            path: list[int] = []
            while node is not None and len(chain) < gamma:
                scores = self._draft_scores(rows[node], text, chain)
                token, q = self.picker.draft(scores, len(self.seq) + len(chain))
                chain.append(token)
                qs.append(q)
                if token in self.drafting.ends:
                    break
                node = tree.child(node, token)
                path += [] if node is None else [node]
            state.keep(path)
            if chain[-1] in self.drafting.ends:
                break
        return chain, qs

    def _draft_scores(self, row: Tensor, text: list[int], chain: list[int]) -> Tensor:
        scores = row[: self.drafting.vocabulary].float()
        for processor in self.drafting.processors:  # they depend on the scores alone
            scores = processor(None, scores[None])[0]
        return scores

    def _add_phrases(
        self, tree: DraftTree, trunk: list[int], chain: list[int], proposals: list[Phrase], plan: Plan, room: int
    ) -> list[_Placed]:
        """The paper's lengthening: K phrases at the end of the trunk, verified in the same pass. And some beside it."""
        placed: list[_Placed] = []

        def place(at: int, phrases: list[Phrase]) -> None:
            for phrase in phrases:
                tokens = self._known(phrase)[: plan.length]
                nodes = tree.extend(at, tokens, phrase.source, nodes=plan.nodes, depth=room)
                if nodes:
                    placed.append(_Placed(phrase, at, nodes))

        branches = self.target.how.mode == "tree"
        if chain and branches:
            place(ROOT, proposals[: plan.beside])
        if len(trunk) < len(chain) or (chain and chain[-1] in self.drafting.ends):
            return placed
        end = trunk[-1] if trunk else ROOT
        if chain:
            proposals = self._lookup(self.seq + chain, plan.phrases)
        place(end, proposals[: plan.phrases if branches else min(1, plan.phrases)])
        if plan.predicted > 0:
            self._fill(tree, end, proposals, plan.nodes, room)
        return placed

    def _fill(self, tree: DraftTree, end: int, proposals: list[Phrase], nodes: int, room: int) -> None:
        """Feed as many tokens as were planned: a few more can cost less time than a few fewer. What is at hand comes first."""
        count = len(proposals) if self.target.how.mode == "tree" else 1
        for phrase in proposals[:count]:
            tree.extend(end, self._known(phrase), phrase.source, nodes=nodes, depth=room)
        if self.target.how.mode == "tree":
            for token in range(self.drafting.vocabulary):
                if len(tree) >= nodes or tree.depth(end) >= room:
                    break
                tree.extend(end, [token], "padding", nodes=nodes)

    def _lookup(self, text: list[int], k: int) -> list[Phrase]:
        return self.pool.lookup(text[-max(self.pool.orders) :], k) if self.pool is not None and k > 0 else []

    def _known(self, phrase: Phrase) -> tuple[int, ...]:
        tokens = phrase.tokens
        limit = self.drafting.vocabulary
        return next((tokens[:i] for i, token in enumerate(tokens) if not 0 <= token < limit), tokens)

    # ---- verifying ----

    def _walk(
        self, rows: Tensor, tree: DraftTree, trunk: list[int], chain: list[int], qs: list[Tensor | None]
    ) -> tuple[list[int], list[int], list[int] | None]:
        """The tokens written, the nodes that they matched, and the likeliest token after every node where anybody asks for it."""
        fast = self.picker.greedy and self.text.plain
        wanted = fast or (
            len(tree) > 0 and self.pool is not None and bool(self.drafting.learn & {"rejected", "corrected"})
        )
        likeliest: list[int] | None = rows.float().argmax(-1).tolist() if wanted else None
        out: list[int] = []
        path: list[int] = []
        node: int | None = ROOT
        while node is not None:
            if fast:
                assert likeliest is not None
                token = likeliest[node]
            else:
                depth = tree.depth(node)
                q = qs[depth] if depth < len(trunk) and path == trunk[:depth] else None
                token = self.picker.pick(
                    self.text.process(rows[node]), len(self.seq), None if q is None else (chain[depth], q)
                )
            out.append(token)
            self.seq.append(token)
            node = tree.child(node, token)
            path += [] if node is None else [node]
            if self.text.append(token):
                break
        return out, path, likeliest

    # ---- learning and counting ----

    def _learn_text(self, start: int, source: str) -> None:
        if self.pool is not None and source in self.drafting.learn:
            self.pool.feed(self.seq, start, source)

    def _learn_outcome(
        self,
        start: int,
        out: list[int],
        path: list[int],
        tree: DraftTree,
        trunk: list[int],
        phrases: list[_Placed],
        likeliest: list[int] | None,
    ) -> None:
        """What was written; what the target said behind tokens that it refused; how each phrase fared."""
        self._learn_text(start, "output")
        if self.pool is None:
            return
        matched = set(path)
        judged = sum(node in matched for node in trunk)
        for placed in phrases:
            if placed.at == ROOT or judged == len(trunk) < len(out):
                self.pool.record(placed.phrase, len(placed.nodes), sum(node in matched for node in placed.nodes))
        learn = self.drafting.learn
        if likeliest is None or not learn & {"corrected", "rejected"}:
            return
        drafted = [tree.tokens[node - 1] for node in trunk]
        text = self.seq[max(0, start - max(self.pool.orders)) : start]
        before = [*text, *drafted]
        if "corrected" in learn:
            for _, at, nodes in phrases:
                said = [likeliest[node] for node in [at, *nodes[:-1]]]
                reached = at == ROOT or judged == len(trunk)
                told = len(said) == 1 and reached and "output" in learn  # the text itself says that much
                if not told and said != [tree.tokens[node - 1] for node in nodes]:
                    self.pool.correct(text if at == ROOT else before, said, "corrected")
        if "rejected" in learn:
            for j in range(judged, len(trunk)):
                said = [likeliest[trunk[j]]]
                for i in range(j + 1, len(trunk)):
                    if drafted[i] != said[-1]:
                        break
                    said.append(likeliest[trunk[i]])
                self.pool.correct(before[: len(before) - len(trunk) + j + 1], said, "rejected")

    def _count(
        self, tree: DraftTree, path: list[int], out: list[int], unread: int, predicted: float | None, measured: float
    ) -> None:
        stats = self.stats
        sources = [tree.sources[node - 1] for node in path]
        stats.add_round(
            fed=unread + len(tree),
            tokens=list(zip(out, [*sources, *["target"] * (len(out) - len(path))], strict=True)),
            proposed=tree.sources,
            accepted=sources,
            predicted=predicted,
            measured=measured,
        )


def _alone(steps: Steps) -> None:
    try:
        state, unread, tree = next(steps)
        while True:
            begin = time.perf_counter()
            rows = state.forward(unread, tree)
            state, unread, tree = steps.send((rows, time.perf_counter() - begin))
    except StopIteration:
        return


def together(texts: Sequence[Rounds]) -> None:
    """Write several texts whose models are rows of the same packs, as many in one pass as are ready for it.

    Drafts come first: a text whose draft is done waits for the others, so that the target verifies all of them at once.
    """
    running = {number: text.steps() for number, text in enumerate(texts)}
    asked = {number: first for number, steps in running.items() if (first := next(steps, None)) is not None}
    while asked:
        drafting = [n for n, (row, _, _) in asked.items() if row is texts[n].draft]
        ready = drafting or list(asked)
        begin = time.perf_counter()
        answers = asked[ready[0]][0].pack.forward([asked[number] for number in ready])
        seconds = (time.perf_counter() - begin) / len(ready)
        for number, rows in zip(ready, answers, strict=True):
            try:
                asked[number] = running[number].send((rows, seconds))
            except StopIteration:
                del asked[number]
                rows_of_text: list[Any] = [texts[number].target, texts[number].draft]
                for row in rows_of_text:
                    if row is not None:
                        row.close()


def _meet(draft: ModelState | PackedRow, seq: list[int], start: int) -> None:
    """Take the draft model back to what it shares with the text."""
    at = min(start, len(draft.cached))
    last = min(len(draft.cached), len(seq) - 1)
    while at < last and draft.cached[at] == seq[at]:
        at += 1
    draft.rollback(min(at, last))
