"""The readers of documents, one file a format: each returns the sections of a document."""
