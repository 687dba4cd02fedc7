"""A map inside the network changes the states it is meant for, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from wcs_models import DECODERS, LAYERS, WIDTH, model

from fascicle_wcs.errors import StatesError
from fascicle_wcs.injection import inject
from fascicle_wcs.wordstates import find_blocks

I = np.eye(WIDTH)
Q = ortho_group.rvs(WIDTH, random_state=0)
LENGTHS = (3, 7, 5)
SPANS = [(1, 2), (2, 5), (3, 5)]


def prompts(lengths: tuple[int, ...] = LENGTHS, side: str = "left") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    longest = max(lengths)
    rows = [torch.randint(5, 200, (n,), generator=generator).tolist() for n in lengths]
    ids = [[0] * (longest - len(r)) + r if side == "left" else r + [0] * (longest - len(r)) for r in rows]
    mask = torch.tensor([[int(t != 0) for t in row] for row in ids])
    return {"input_ids": torch.tensor(ids), "attention_mask": mask}


def positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(-1) - 1).clamp_min(0)


class Watch:
    """The output of a block at each call, seen by a hook that was registered after the injection's."""

    def __init__(self, net: Any, layer: int) -> None:
        self.seen: list[torch.Tensor] = []
        block = find_blocks(net).modules[layer - 1]
        self.handle = block.register_forward_hook(lambda _, __, out: self.seen.append(self.first(out).detach().clone()))

    @staticmethod
    def first(out: Any) -> torch.Tensor:
        found: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return found


def run(net: Any, batch: dict[str, torch.Tensor], layer: int = 2) -> torch.Tensor:
    """States after the block, as the next block gets them."""
    watch = Watch(net, layer)
    extra = {} if net.config.model_type == "bloom" else {"position_ids": positions(batch["attention_mask"])}
    with torch.no_grad():
        net(**batch, **extra)
    watch.handle.remove()
    return watch.seen[0]


def changed(before: torch.Tensor, after: torch.Tensor) -> list[list[int]]:
    moved = ((before - after).abs().amax(-1) > 1e-4).tolist()
    return [[column for column, there in enumerate(row) if there] for row in moved]


def generate(net: Any, batch: dict[str, torch.Tensor], **more: Any) -> list[list[int]]:
    out = net.generate(**batch, **{"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, **more})
    return out[:, batch["input_ids"].shape[1] :].tolist()


def hooks_of(net: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


# ---- what is mapped, and to what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("scope", ["word", "last", "all"])
def test_the_identity_changes_nothing(family: str, scope: Any) -> None:
    net, batch = model(family), prompts()
    with torch.no_grad():
        plain = net(**batch).logits
        with inject(net, 2, I, scope=scope, attention_mask=batch["attention_mask"], spans=SPANS):
            mapped = net(**batch).logits
    assert torch.allclose(plain, mapped, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_exactly_the_scopes_positions_are_mapped_on_either_side_of_padding(family: str, side: str) -> None:
    net, batch = model(family), prompts(side=side)
    plain, longest = run(net, batch), max(LENGTHS)
    pads = [longest - n if side == "left" else 0 for n in LENGTHS]
    expected = {
        "word": [list(range(p + a, p + b)) for p, (a, b) in zip(pads, SPANS, strict=True)],
        "last": [[p + n - 1] for p, n in zip(pads, LENGTHS, strict=True)],
        "all": [list(range(p, p + n)) for p, n in zip(pads, LENGTHS, strict=True)],
    }
    for scope, columns in expected.items():
        with inject(net, 2, Q, scope=scope, attention_mask=batch["attention_mask"], spans=SPANS):  # type: ignore[arg-type]
            mapped = run(net, batch)
        assert changed(plain, mapped) == columns
        for row, at in enumerate(columns):
            torch.testing.assert_close(mapped[row, at], plain[row, at] @ torch.tensor(Q).float(), atol=1e-4, rtol=1e-4)


def test_a_map_and_its_transpose_cancel_and_contexts_nest() -> None:
    net, batch = model(), prompts()
    with torch.no_grad():
        plain = net(**batch).logits
        there = {"scope": "all", "attention_mask": batch["attention_mask"]}
        with inject(net, 2, Q, **there):
            once = net(**batch).logits
            with inject(net, 2, Q.T, **there):
                both = net(**batch).logits
            again = net(**batch).logits
    assert not torch.allclose(plain, once, atol=0.1)
    assert torch.allclose(plain, both, atol=1e-4)
    assert torch.equal(once, again)


def test_means_are_taken_off_before_the_map_and_added_after_it() -> None:
    net, batch = model(), prompts()
    mu_s, mu_t = np.random.default_rng(1).normal(size=(2, WIDTH))
    plain = run(net, batch)
    with inject(net, 2, Q, mean_source=mu_s, mean_target=mu_t, scope="last", attention_mask=batch["attention_mask"]):
        mapped = run(net, batch)
    expected = (plain[:, -1].double().numpy() - mu_s) @ Q + mu_t
    np.testing.assert_allclose(mapped[:, -1], expected, atol=1e-4)


def test_keep_norm_turns_each_state_and_leaves_its_length() -> None:
    net, batch = model(), prompts()
    mu_s, mu_t = 0.1 * np.random.default_rng(1).normal(size=(2, WIDTH))
    plain = run(net, batch)
    settings: Any = {"scope": "last", "keep_norm": True, "attention_mask": batch["attention_mask"]}
    with inject(net, 2, 3 * Q, mean_source=mu_s, mean_target=mu_t, **settings):
        mapped = run(net, batch)[:, -1].double().numpy()
    x = plain[:, -1].double().numpy()
    length = np.linalg.norm(x, axis=1, keepdims=True)
    direction = (x / length - mu_s) @ (3 * Q) + mu_t
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1, keepdims=True), length, rtol=1e-5)
    np.testing.assert_allclose(mapped, length * direction / np.linalg.norm(direction, axis=1, keepdims=True), atol=1e-4)


def test_the_map_has_the_models_dtype() -> None:
    net, batch = model().to(torch.bfloat16), prompts()
    for keep_norm in (False, True):
        with inject(net, 2, Q, scope="all", keep_norm=keep_norm, attention_mask=batch["attention_mask"]):
            assert run(net, batch).dtype == torch.bfloat16


def test_the_block_keeps_the_kind_of_its_output() -> None:
    for family, kind in (("bloom", tuple), ("llama", torch.Tensor)):
        net, batch = model(family), prompts()
        kinds: list[Any] = []
        with inject(net, 2, Q, scope="all", attention_mask=batch["attention_mask"]):
            find_blocks(net).modules[1].register_forward_hook(lambda _, __, out, kinds=kinds: kinds.append(out))
            net(**batch)
        assert isinstance(kinds[0], kind)


def test_the_result_is_the_same_whether_states_were_asked_for_before() -> None:
    batch = prompts()
    logits = []
    for asked in (False, True):
        net = model()
        with torch.no_grad():
            if asked:
                net(**batch, output_hidden_states=True)
            with inject(net, 2, Q, scope="all", attention_mask=batch["attention_mask"]):
                logits.append(net(**batch, output_hidden_states=asked).logits)
    assert torch.equal(*logits)


# ---- generation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("scope", ["word", "last", "all"])
def test_answers_are_those_of_a_network_without_a_cache(family: str, scope: Any) -> None:
    """With a cache only the prompt's pass is mapped; without one each pass maps the same positions again."""
    net, batch = model(family), prompts()
    answers = []
    with inject(net, 2, Q, scope=scope) as injection:
        for use_cache in (True, False):
            injection.prompts(batch["attention_mask"], SPANS)
            answers.append(generate(net, batch, use_cache=use_cache))
    assert answers[0] == answers[1]
    assert answers[0] != generate(net, batch)


def test_tokens_of_an_answer_are_never_mapped() -> None:
    net, batch = model(), prompts((4,))
    with inject(net, 2, Q, scope="all", attention_mask=batch["attention_mask"]):
        watch = Watch(net, 2)
        answer = generate(net, batch, eos_token_id=None)[0]
    watch.handle.remove()
    assert [seen.shape[1] for seen in watch.seen] == [4, 1, 1, 1, 1, 1]
    # By hand: the states of prompt and answer in one pass, the first four mapped.
    block = find_blocks(net).modules[1]
    turn = torch.tensor(Q).float()
    handle = block.register_forward_hook(lambda _, __, out: torch.cat([out[:, :4] @ turn, out[:, 4:]], 1))
    whole = Watch(net, 2)
    with torch.no_grad():
        net(torch.cat([batch["input_ids"], torch.tensor([answer[:-1]])], 1))
    handle.remove()
    torch.testing.assert_close(torch.cat(watch.seen, 1), whole.seen[0], atol=1e-4, rtol=1e-4)


def test_a_prompt_read_in_chunks_is_mapped_at_the_same_positions() -> None:
    net, batch = model(), prompts()
    with inject(net, 2, Q, scope="word") as injection:
        answers = []
        for size in (None, 1, 2, 3, 100):
            injection.prompts(batch["attention_mask"], SPANS)
            answers.append(generate(net, batch, prefill_chunk_size=size))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] != generate(net, batch)


def test_steps_of_several_tokens_are_left_alone() -> None:
    net, batch = model(), prompts((6,))
    batch["input_ids"] = torch.tensor([[7, 8, 9, 7, 8, 9]])
    with inject(net, 2, Q, scope="all") as injection:
        injection.prompts(batch["attention_mask"])
        plain = generate(net, batch, max_new_tokens=12)
        injection.prompts(batch["attention_mask"])
        watch = Watch(net, 2)
        looked_up = generate(net, batch, max_new_tokens=12, prompt_lookup_num_tokens=3)
    assert any(seen.shape[1] > 1 for seen in watch.seen[1:])
    assert looked_up == plain


def test_a_prompt_of_one_token_is_a_prompt() -> None:
    net, batch = model(), prompts((1,))
    with inject(net, 2, Q, scope="all", attention_mask=batch["attention_mask"]):
        mapped = run(net, batch)
    assert changed(run(net, batch), mapped) == [[0]]


def test_each_beam_is_mapped_as_its_prompt() -> None:
    net, batch = model(), prompts()
    beams = {"num_beams": 3, "num_return_sequences": 3}
    with inject(net, 2, Q, scope="word") as injection:
        injection.prompts(batch["attention_mask"], SPANS)
        together = generate(net, batch, **beams)
        alone = []
        for row, length in enumerate(LENGTHS):
            one = {name: tensor[row : row + 1, -length:] for name, tensor in batch.items()}
            injection.prompts(one["attention_mask"], SPANS[row : row + 1])
            alone += generate(net, one, **beams)
    assert together == alone


# ---- the model afterwards, and errors ------------------------------------------------------------------------------------


def test_hooks_are_gone_afterwards_also_after_an_error_and_others_stay() -> None:
    net, batch = model(), prompts()
    with torch.no_grad():
        plain = net(**batch).logits
    calls: list[int] = []
    find_blocks(net).modules[1].register_forward_hook(lambda *_: calls.append(1))

    def fail() -> None:
        with inject(net, 2, Q, scope="all", attention_mask=batch["attention_mask"]):
            net(**batch)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert hooks_of(net) == 1
    with torch.no_grad():
        assert torch.equal(net(**batch).logits, plain)
    assert len(calls) == 2


def test_a_peft_model_is_mapped_too() -> None:
    from peft import LoraConfig, get_peft_model

    net, batch = model(), prompts()
    with torch.no_grad(), inject(net, 2, Q, scope="all", attention_mask=batch["attention_mask"]):
        plain = net(**batch).logits
    adapted: Any = get_peft_model(net, LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad(), inject(adapted, 2, Q, scope="all", attention_mask=batch["attention_mask"]):
        assert torch.allclose(adapted(**batch).logits, plain, atol=1e-5)


def test_a_cache_that_was_filled_without_the_map_is_refused() -> None:
    net, batch = model(), prompts((4,))
    past = net(**batch, use_cache=True).past_key_values
    with (
        inject(net, 2, Q, scope="all", attention_mask=torch.ones(1, 5)),
        pytest.raises(StatesError, match="4 tokens that were read without"),
    ):
        net(torch.tensor([[9]]), past_key_values=past)


def test_what_does_not_fit_is_told() -> None:
    net, batch = model(), prompts()
    mask = batch["attention_mask"]
    for wrong in (0, LAYERS):
        with pytest.raises(StatesError, match="expected 1 to 3"), inject(net, wrong, Q):
            pass
    with pytest.raises(StatesError, match="W: got shape"), inject(net, 1, Q[:3]):
        pass
    with pytest.raises(StatesError, match="scope"), inject(net, 1, Q, scope="some"):  # type: ignore[arg-type]
        pass
    for spans in (None, SPANS[:2], [(1, 2), (2, 5), (3, 6)], [(1, 1), (2, 5), (3, 5)]):
        with pytest.raises(StatesError, match="spans"), inject(net, 1, Q, attention_mask=mask, spans=spans):
            pass
    with inject(net, 1, Q, scope="all") as injection:
        with pytest.raises(StatesError, match="no prompts"):
            net(**batch)
        injection.prompts(mask[:2])
        with pytest.raises(StatesError, match="multiple of 2"):
            net(**batch)
    assert hooks_of(net) == 0
