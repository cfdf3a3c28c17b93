"""Time to fit a matrix to texts, as the recipe int4-fit does, and what that comes to for GLM-4-9B.

    python -m benchmarks.block_gptq [--rows 27392] [--columns 4096] [--tokens 2048]

Random bf16 weights and inputs. For one core: `taskset -c 0 python -m benchmarks.block_gptq`.
"""

import argparse
import time

import numpy as np

from convert.weights.block_gptq import BlockHessian, fitted_rows
from runtime.checkpoint.tensors import Tensor
from runtime.system.cores import usable_cores

_WEIGHTS_9B = 9.4e9


def main() -> None:
    """Measure the matrix that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=27392, help="of the matrix (27392, as GLM-4-9B's gate_up)")
    parser.add_argument("--columns", type=int, default=4096, help="of the matrix (4096)")
    parser.add_argument("--tokens", type=int, default=2048, help="whose inputs are read (2048)")
    args = parser.parse_args()
    draw = np.random.default_rng(0)
    values = draw.standard_normal((args.rows, args.columns), np.float32)
    matrix = Tensor("matrix", values.shape, "bf16", (values.view(np.uint32) >> 16).astype(np.uint16))
    inputs = draw.standard_normal((args.tokens, args.columns), np.float32)
    start = time.perf_counter()
    hessian = BlockHessian(args.columns)
    hessian.add(inputs)
    read = time.perf_counter()
    for _ in fitted_rows(matrix, hessian, 128):
        pass
    fitted = time.perf_counter() - read
    whole = fitted * _WEIGHTS_9B / values.size
    print(
        f"{usable_cores()} cores: {read - start:.2f} s for the Hessian of {args.tokens} inputs, {fitted:.2f} s to fit "
        f"{args.rows} x {args.columns} weights; {whole:.0f} s for 9B's {_WEIGHTS_9B:.2g}"
    )


if __name__ == "__main__":
    main()
