"""A grammar's tree printed for an engine: as EBNF for xgrammar, and in llguidance's syntax."""
