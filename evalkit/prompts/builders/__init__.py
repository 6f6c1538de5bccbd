"""Row builders: rows that are made rather than read. Importing registers all of them."""

from evalkit.prompts.builders import annotated, documents, joined, needle, needlebench, ruler
from evalkit.prompts.builders.base import BUILDERS, Builder, Material, TextTokenizer

__all__ = [
    "BUILDERS", "Builder", "Material", "TextTokenizer", "annotated", "documents", "joined", "needle", "needlebench",
    "ruler",
]  # fmt: skip
