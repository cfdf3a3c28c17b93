"""Grammars of replies: what may be asked for, and how it is enforced."""
