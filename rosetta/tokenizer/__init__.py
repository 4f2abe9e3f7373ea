"""What a container embeds -> a tokenizer that gives the ids of the container's own runtime."""

from rosetta.tokenizer.comparison import VocabularyDifference, compare_vocabularies, type_note
from rosetta.tokenizer.loading import load_tokenizer, load_vocabulary, open_tokenizer
from rosetta.tokenizer.tokenizer import Tokenizer
from rosetta.tokenizer.vocabulary import TokenizerFinding, TokenType, Vocabulary

__all__ = [
    "TokenType",
    "Tokenizer",
    "TokenizerFinding",
    "Vocabulary",
    "VocabularyDifference",
    "compare_vocabularies",
    "load_tokenizer",
    "load_vocabulary",
    "open_tokenizer",
    "type_note",
]
