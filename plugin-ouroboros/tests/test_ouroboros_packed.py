"""Batches: rows of different length and acceptance in one pass write what each writes alone."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from ouroboros_models import VOCAB, model, near, prompt

from fascicle_ouroboros import DraftingOptions, OuroborosEngine, calibration, costs, packed
from fascicle_ouroboros.packed import Packed
from fascicle_ouroboros.state import ModelState, verification
from fascicle_ouroboros.tree import ROOT, DraftTree

if TYPE_CHECKING:
    from torch import Tensor

LENGTHS = (5, 13, 7, 9, 11)
NEW = 20


def batch(lengths: tuple[int, ...] = LENGTHS) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The prompts, and the batch that holds them, padded on the left."""
    prompts = [prompt(seed, length) for seed, length in enumerate(lengths)]
    longest = max(lengths)
    ids = torch.cat(
        [
            torch.cat([torch.zeros(1, longest - n, dtype=torch.long), p], 1)
            for n, p in zip(lengths, prompts, strict=True)
        ]
    )
    return prompts, {"input_ids": ids, "attention_mask": (ids != 0).long()}


FAMILIES = ["llama", "llama_eager", "mistral_window", "qwen2_window", "qwen3", "gemma", "gemma2_window", "gpt2"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("drafted", [False, True])
def test_every_row_is_what_it_is_alone(family: str, drafted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LEAST_WASTE", 4)  # so that rows move together often
    target, draft = model(family), near(family) if drafted else None
    prompts, together = batch()
    want = [target.generate(p, max_new_tokens=NEW, do_sample=False)[0, p.shape[1] :].tolist() for p in prompts]
    for rows in (3, 8):
        engine = OuroborosEngine(target, draft, options=DraftingOptions(batch_rows=rows))
        out = engine.generate(together, max_new_tokens=NEW)
        assert out[:, max(LENGTHS) :].tolist() == want
        assert [s.emitted for s in engine.row_stats] == [NEW] * len(LENGTHS)


def test_rows_that_end_early_make_room_and_the_others_go_on() -> None:
    target = model("llama")
    prompts, together = batch()
    ends = [int(target.generate(p, max_new_tokens=6, do_sample=False)[0, -1]) for p in prompts[:2]]
    settings: dict[str, Any] = {"max_new_tokens": NEW, "eos_token_id": ends, "pad_token_id": 0}
    plain = target.generate(**together, **settings, do_sample=False)
    engine = OuroborosEngine(target)
    assert engine.generate(together, **settings).tolist() == plain.tolist()
    assert len({s.emitted for s in engine.row_stats}) > 1


@pytest.mark.parametrize("drafted", [False, True])
def test_seeded_draws_do_not_depend_on_the_company(drafted: bool) -> None:
    draft = near() if drafted else None
    _, together = batch()
    settings: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": True, "top_k": 0, "seed": 5}
    texts = [
        OuroborosEngine(model(), draft, options=DraftingOptions(batch_rows=rows))
        .generate(together, **settings)
        .tolist()
        for rows in (1, 3, 8)
    ]
    assert texts[0] == texts[1] == texts[2]


def test_a_pass_serves_all_rows_that_are_ready() -> None:
    target = model("llama")
    calls: list[int] = []
    handle = target.register_forward_pre_hook(
        lambda _m, _a, kw: calls.append(kw["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        engine = OuroborosEngine(target, options=DraftingOptions(phrases=0))
        engine.generate(batch()[1], max_new_tokens=NEW)
    finally:
        handle.remove()
    assert calls == [*LENGTHS, *[len(LENGTHS)] * (NEW - 1)]  # the prompts alone, then a token of each row in every pass
    assert [s.target_forwards for s in engine.row_stats] == [NEW] * len(LENGTHS)


def test_trees_kept_and_taken_back_leave_what_a_fresh_reading_has() -> None:
    target = model("llama")
    pack = Packed(target, verification(target))
    rows = [pack.row() for _ in range(3)]
    texts = [prompt(seed, 6)[0].tolist() for seed in range(3)]
    pack.forward([(row, text, DraftTree()) for row, text in zip(rows, texts, strict=True)])
    for row in rows:
        row.keep([])
    trees = [DraftTree() for _ in rows]
    for number, tree in enumerate(trees):
        tree.extend(ROOT, [3 + number, 4, 5], "prompt")
        tree.extend(ROOT, [9, 8], "output")
    pack.forward([(row, [1, 2], tree) for row, tree in zip(rows, trees, strict=True)])
    rows[0].keep([1, 2, 3])
    rows[1].keep([4])
    rows[2].keep([])
    rows[0].rollback(9)  # before it was carried out
    pack.forward([(rows[1], [7], DraftTree())])
    rows[1].keep([])
    rows[1].rollback(7)  # after
    want = [[*texts[0], 1, 2, 3], [*texts[1], 1], [*texts[2], 1, 2]]
    assert [row.cached for row in rows] == want
    answers = pack.forward([(row, [11], DraftTree()) for row in rows])
    for row, text, answer in zip(rows, want, answers, strict=True):
        fresh = ModelState(target, verification(target)).forward([*text, 11], DraftTree())
        assert torch.allclose(answer, fresh[-1:], atol=1e-12, rtol=0)
        row.keep([])
    assert answers[0].shape == (1, VOCAB)


def test_a_repeated_text_is_read_on_as_if_it_were_twice_there() -> None:
    target = model("gpt2")
    pack = Packed(target, verification(target))
    rows = [pack.row(), pack.row()]
    pack.forward([(row, [1 + number, 5, 7], DraftTree()) for number, row in enumerate(rows)])
    for row in rows:
        row.keep([])
    pack.repeat(2)
    assert [row.cached for row in rows] == [[1, 5, 7, 1, 5, 7], [2, 5, 7, 2, 5, 7]]
    assert pack.cache.get_seq_length() == 12
    state = ModelState(target, verification(target))
    state.forward([2, 5, 7], DraftTree())
    state.keep([])
    state.repeat(2)
    answers = pack.forward([(row, [9], DraftTree()) for row in rows])
    assert torch.allclose(answers[1], state.forward([9], DraftTree()), atol=1e-12, rtol=0)


def test_an_adaptive_batch_measures_batches_and_writes_the_same() -> None:
    target = model("llama")
    prompts, together = batch()
    want = [target.generate(p, max_new_tokens=NEW, do_sample=False)[0, p.shape[1] :].tolist() for p in prompts]
    engine = OuroborosEngine(target, near(), options=DraftingOptions(adaptive=True, nodes=12, batch_rows=3))
    assert engine.generate(together, max_new_tokens=NEW)[:, max(LENGTHS) :].tolist() == want
    assert sorted(engine._controllers) == [2, 3]
    assert engine.row_stats[0].calibration_forwards > 0


def test_a_rows_cost_is_its_share_of_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(calibration, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    monkeypatch.setattr(costs, "_MEASURED", {})
    how = verification(model("llama"))
    alone, shared = (calibration.pass_costs(model("llama"), how, 9, rows=rows) for rows in (1, 4))
    assert set(alone.measured.values()) == {1.0}  # a tick before and one after each pass
    assert set(shared.measured.values()) == {0.25}
