"""Grammars that users write in EBNF become trees."""
