"""The BiLSTM on blocks, each row turned round for the way from the end, against torch's packed sequences, forward and back.

    python plugin-sief/benchmarks/bilstm.py [--rows 8] [--words 300] [--rounds 7]

Both have the same weights and results (tested); rounds alternate their order, and the median of their ratios is told.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from fascicle_sief.modeling import RelationConfig, _Lstm

if TYPE_CHECKING:
    from torch import Tensor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 8), ("words", 300), ("width", 384), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = RelationConfig(base="bilstm", relations=["r"])
    blocks = _Lstm(config, options.width)
    size = blocks.from_start.input_size
    packed = nn.LSTM(size, blocks.from_start.hidden_size, batch_first=True, bidirectional=True)
    lengths = torch.linspace(options.words, options.words * 2 // 3, options.rows).long()
    mask = (torch.arange(options.words) < lengths[:, None]).long()
    x = torch.randn(options.rows, options.words, size, requires_grad=True)

    def by_packing() -> Tensor:
        told = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(packed(told)[0], batch_first=True, total_length=options.words)[0]

    work: dict[str, Callable[[], Tensor]] = {"blocks": lambda: blocks.read(x, mask), "packed": by_packing}
    ratios = []
    for number in range(options.rounds + 1):
        seconds = {}
        for name in sorted(work, reverse=bool(number % 2)):
            start = time.perf_counter()
            work[name]().sum().backward()
            seconds[name] = time.perf_counter() - start
        if number:  # the first warms up
            ratios.append(seconds["blocks"] / seconds["packed"])
    print(f"blocks / packed: {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
