"""Logging of the command line and its workers: one handler, on stderr, so that stdout stays the command's answer."""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["setup_logging"]


def setup_logging(default: str = "info") -> None:
    """Attach the handler once; the level is that of `--log-level`, which workers inherit by `FASCICLE_LOG_LEVEL`."""
    level = os.environ.get("FASCICLE_LOG_LEVEL", default).upper()
    logger = logging.getLogger("fascicle")
    logger.setLevel(level)
    if not any(getattr(handler, "fascicle", False) for handler in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.fascicle = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter("%(levelname).1s %(name)s: %(message)s"))
        logger.addHandler(handler)
    logging.captureWarnings(capture=level != "DEBUG")
