"""The files of a checkpoint, which may come from anyone: read within bounds, validated, never executed."""
