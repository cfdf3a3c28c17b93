"""Tool calls in the text of a reply: each way in which models spell them."""
