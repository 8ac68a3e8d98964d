"""Is what would be loaded what is in a model's files?

Told from the headers of its weights, the classes that its configs name, and, once for files of one hash, every value.
"""

from shoes.model.contents.findings import Contents, Files, Inspection
from shoes.model.contents.header import Unreadable, read_part, read_shards
from shoes.model.contents.parts import PARTS, UNET, Kind, Part, offered
from shoes.model.contents.words import Origin, problems

__all__ = [
    "PARTS",
    "UNET",
    "Contents",
    "Files",
    "Inspection",
    "Kind",
    "Origin",
    "Part",
    "Unreadable",
    "offered",
    "problems",
    "read_part",
    "read_shards",
]
