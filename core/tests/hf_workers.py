"""What tests run in processes of their own; here, where a fresh process can import it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def convert(gguf: str, cache: str, queue: Any) -> None:
    os.environ["FASCICLE_CACHE"] = cache
    from fascicle.hf.gguf import converted

    queue.put(str(converted(Path(gguf))))
