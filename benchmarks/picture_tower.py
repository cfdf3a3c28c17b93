"""What a picture costs: CPU seconds, seconds and memory of the image tower of a vision model, a layer and in all.

    python -m benchmarks.make_checkpoint CHECKPOINT --shape glm-4v-9b --layers 1
    edge convert CHECKPOINT FOLDER
    python -m benchmarks.picture_tower FOLDER --layers 63 [--width 1120 --height 1120] [--rounds 5]

The decoder may be as shallow as one likes: the tower alone is loaded. `--layers` are the tower's, to divide by. The
first round is not counted. Memory is that of the process, above what it had before the tower was loaded; it is read
from /proc, on Linux only.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from runtime.backends.backend import Options
from runtime.backends.openvino.vision.image_tower import ImageTower, tower_bytes
from runtime.folder.model_folder import ModelFolder

from .peers_report import format_spread, markdown_table
from .process import anonymous_memory


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the model folder of a vision model")
    parser.add_argument("--layers", type=int, required=True, help="layers of its tower")
    parser.add_argument("--width", type=int, default=1120, help="pixels, as the model resizes the picture")
    parser.add_argument("--height", type=int, default=1120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    folder = ModelFolder.open(args.folder)
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    before = anonymous_memory()
    tower = ImageTower(folder, "CPU", Options(threads=args.threads))
    random = np.random.default_rng(0)
    seconds, cpu, tokens = [], [], 0
    for number in range(args.rounds + 1):
        pixels = random.integers(0, 256, (args.height, args.width, 3), dtype=np.uint8)
        start, used = time.perf_counter(), time.process_time()
        features = tower.run(pixels, lambda: False)
        assert features is not None
        assert np.isfinite(features).all()
        tokens = len(features)
        if number:
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
    rows = [
        ["tokens of the picture", f"{tokens:,}"],
        ["CPU seconds", format_spread(cpu, digits=2)],
        ["CPU seconds a layer", format_spread([one / args.layers for one in cpu], digits=3)],
        ["seconds", format_spread(seconds, digits=2)],
        ["weights, MB", f"{tower_bytes(folder) / 1e6:,.0f}"],
        ["anonymous memory, MB", f"{(anonymous_memory() - before) / 1e6:,.0f}"],
    ]
    print(markdown_table(["", f"{args.width} x {args.height} pixels"], rows))


if __name__ == "__main__":
    main()
