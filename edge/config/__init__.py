"""The settings of `edge serve` and `edge chat`: the file `edge.toml`, its sections and keys, and the tools it names."""
