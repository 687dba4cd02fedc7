"""What a pass of a model costs on this machine, measured by passes."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import torch
import transformers

from .costs import CostModel
from .models import positions_left, vocabulary
from .packed import Packed
from .state import ModelState
from .tree import ROOT, DraftTree

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from torch import Tensor

    from .state import Verification

__all__ = ["pass_costs"]

MOST_TIMED = 64
"""Tokens of the largest pass that is timed for a batch."""


def pass_costs(
    model: Any, how: Verification, most: int, folder: str | os.PathLike[str] | None = None, rows: int = 1
) -> CostModel:
    """What a pass over 1 to `most` new tokens costs: measured once for each model, device, dtype and number of threads.

    With `rows` texts in one pass: each one's share, where all of them feed as many.
    """
    largest = max(MOST_TIMED, 2 * rows) // rows
    sizes = [k for k in (1, 2, 4, 6, 8, 16, 32, 64) if k <= (most if rows == 1 else min(most, largest))]
    longest = positions_left(model.config.get_text_config(decoder=True))(0)
    context = min(256, max(1, longest - most))

    def calibrate() -> CostModel:
        start, size = time.perf_counter(), vocabulary(model)
        read = min(8, context)
        begun = [i % size for i in range(read)]
        pack = Packed(model, how) if rows > 1 else None
        texts: list[Any] = [ModelState(model, how)] if pack is None else [pack.row() for _ in range(rows)]
        reader = texts[0] if pack is None else pack

        def forward(unread: list[int], tree: DraftTree) -> Tensor:
            if pack is not None:
                return pack.forward([(text, unread, tree) for text in texts])[-1]
            answer: Tensor = texts[0].forward(unread, tree)
            return answer

        with torch.no_grad():
            forward(begun, DraftTree())
            for text in texts:
                text.keep([])
            reader.repeat(context // read)
        length = len(texts[0].cached)

        def measure(k: int, _: int) -> float:
            tree = DraftTree()
            tree.extend(ROOT, [i % size for i in range(k - 1)], "draft")
            begin = time.perf_counter()
            int(forward([0], tree)[-1].argmax())  # waits for the device
            seconds = time.perf_counter() - begin
            for text in texts:
                text.keep([])
                text.rollback(length)
            return seconds / rows

        cost = CostModel.calibrate(measure, sizes, (length,), budget=1.7)
        cost.spent = reader.forwards, time.perf_counter() - start
        return cost

    return CostModel.cached(_what_costs_depend_on(model, how, sizes, context, rows), calibrate, folder)


def _what_costs_depend_on(model: Any, how: Verification, sizes: Sequence[int], context: int, rows: int) -> str:
    weight = next(model.parameters())
    device = torch.cuda.get_device_name(weight.device) if weight.is_cuda else weight.device.type
    config = hashlib.sha256(model.config.to_json_string(use_diff=False).encode()).hexdigest()[:16]
    parts = (
        type(model).__name__,
        config,
        sum(p.numel() for p in model.parameters()),
        weight.dtype,
        device,
        torch.get_num_threads(),
        model.config.get_text_config(decoder=True)._attn_implementation,
        how.mode,
        torch.__version__,
        transformers.__version__,
        *sizes,
        context,
        rows,
    )
    return " ".join(map(str, parts))
