"""JSON schemas become grammars."""
