"""Convert a checkpoint, with a line of progress, and stop cleanly at Ctrl-C.

`python examples/convert_with_progress.py ./GLM-4-9B-0414 ./glm4-int4`. Needs the extra [convert]; a name of the hub,
such as zai-org/GLM-4-9B-0414, is downloaded.
"""

import sys

import edge


def show(progress: edge.Progress) -> None:
    share = f"{progress.done / progress.total:4.0%}" if progress.total else "    "
    print(f"\r{progress.name:10} {share} {progress.detail[:60]:60}", end="", file=sys.stderr, flush=True)


def main(checkpoint: str, folder: str) -> None:
    try:
        made = edge.convert(checkpoint, folder, recipe="int4", progress=show)
    except edge.EdgeError as exc:
        sys.exit(f"\n{exc}. {exc.hint}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from here")
    print(f"\n{made.path}: {made.size / 1e9:.2f} GB, {made.context_length:,} tokens of context")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ("./GLM-4-9B-0414", "./glm4-int4")))
