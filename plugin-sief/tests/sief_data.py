"""Small documents for the tests of scores, readers and texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fascicle_sief.document import Document, Mention

if TYPE_CHECKING:
    from pathlib import Path

    from fascicle_sief.document import Relation

__all__ = ["band", "docred_row", "file"]


def band(title: str = "RATM", relations: tuple[Relation, ...] = ()) -> Document:
    """Entity 0 (Wilk) in sentence 0; 1 (the band, under two names) in 1 and 2; 2 (a year) in 2; 3 (a city) in 7."""
    return Document(
        title,
        [["Wilk", "drums"], ["Rage"], ["RATM", "in", "1991"], *([["-"]] * 4), ["LA"]],
        [
            [Mention(0, 0, 1, "PER")],
            [Mention(1, 0, 1, "ORG"), Mention(2, 0, 1, "ORG", name="Rage Against")],
            [Mention(2, 2, 3, "TIME")],
            [Mention(7, 0, 1, "LOC")],
        ],
        relations,
    )


def docred_row() -> dict[str, Any]:
    """One document in DocRED's format."""
    return {
        "title": "RATM",
        "sents": [["Wilk", "drums", "."], ["He", "joined", "Rage", "."]],
        "vertexSet": [
            [{"name": "Brad Wilk", "pos": [0, 1], "sent_id": 0, "type": "PER"}],
            [{"name": "Rage", "pos": [2, 3], "sent_id": 1, "type": "ORG"}],
        ],
        "labels": [{"h": 0, "t": 1, "r": "P463", "evidence": [0, 1]}, {"h": 1, "t": 0, "r": "P527", "evidence": []}],
    }


def file(folder: Path, content: Any, name: str = "dev.json") -> Path:
    """A file with this content, as JSON unless it is text."""
    path = folder / name
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path
