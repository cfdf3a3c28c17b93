"""Grammars for GenAI, each compiled once in a process that can be killed before an engine gets it."""
