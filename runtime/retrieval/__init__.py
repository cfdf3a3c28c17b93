"""Models of search: the embedding of a text, and the score of a document for a query."""
