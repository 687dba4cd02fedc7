"""Options of the evaluation of DialogRE, typed. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval

__all__ = ["SiefDialogre"]


@dataclass(kw_only=True)
class SiefDialogre:
    """Relations by DialogRE's rules, on whole dialogues (F1) and after each turn (F1c). Its data marks no evidence.

    >>> SiefDialogre().prefixes
    True
    """

    t2: Annotated[float, Interval(ge=0, le=0.5)] | None = None
    """T2 of the official script: where no relation of a pair is above 0.5, the most probable one is predicted if it is above this.
    None chooses the best of 0, 0.01, ..., 0.50 on `validation`."""
    prefixes: bool = True
    """Measure F1c, which asks again after each turn: as many passes as the dialogues have turns, thirteen on average."""
    batch_pieces: Annotated[int, Ge(64)] = 4096
    """Word pieces read at once, padding included."""
    examples: Annotated[int, Ge(0)] = 1
    """Test dialogues to show on the page, with the importance of each turn."""
