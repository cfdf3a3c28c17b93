"""Image towers, as a checkpoint's config.json describes them."""
