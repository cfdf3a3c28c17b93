"""Regular languages: sets of characters, expressions and their automata, patterns, formats, numerals."""
