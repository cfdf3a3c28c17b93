"""The models of a server that do not chat: embeddings, reranking and speech."""
