"""`edge bench`: measure load time, TTFT, prefill and decode rates, and peak memory; find the fastest settings."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from runtime.errors import RequestError

from .numbers import integer
from .output import print_json, print_text
from .shared_flags import add_device, add_json, add_model

if TYPE_CHECKING:
    from ..bench import Summary


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge bench`."""
    verb = verbs.add_parser(
        "bench",
        help="measure how fast a model is on this machine",
        description="Measure load time, time to the first token, prefill and decode rates, and peak memory of a model "
        "on this machine: before you choose a device or a recipe, or report a slow one. With --tune, try the CPU "
        "settings that matter, and keep the fastest for the next load.",
        epilog="Examples:\n\n    edge bench ./glm4-int4 --device CPU --runs 3\n    edge bench ./glm4-int4 --tune",
    )
    add_model(verb)
    add_device(verb)
    verb.add_argument(
        "--prompt-tokens", type=integer("--prompt-tokens"), default=512, metavar="N", help="tokens of each prompt"
    )
    verb.add_argument(
        "--new-tokens", type=integer("--new-tokens", 2), default=128, metavar="N", help="tokens of each reply"
    )
    verb.add_argument(
        "--runs", type=integer("--runs"), default=5, metavar="N", help="measured runs, after one to warm up"
    )
    verb.add_argument(
        "--picture", metavar="FILE", help="a picture before each prompt, if the model reads pictures (default: none)"
    )
    verb.add_argument(
        "--tune",
        action="store_true",
        help="try threads, pinning and activation groups on the CPU, 12 loads or more, and keep the fastest",
    )
    add_json(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge bench`; return the exit code."""
    from .. import bench
    from ..hub.resolve import resolve_model

    if args.tune:
        return _tune(args)
    result = bench.benchmark(
        resolve_model((args.device,), args.folder),
        device=args.device,
        prompt_tokens=args.prompt_tokens,
        new_tokens=args.new_tokens,
        runs=args.runs,
        picture=args.picture,
    )
    if args.json:
        print_json(asdict(result))
        return 0
    print_text(f"device       {result.device}: {result.reason}")
    print(f"load         {result.load:.2f} s")
    print(f"TTFT         {_spread(result.ttft, 1000)} ms at {result.prompt_tokens} tokens")
    if result.picture:
        print(f"picture      {_spread(result.picture, 1000)} ms, part of the TTFT")
    print(f"prefill      {_spread(result.prefill)} tokens/s")
    print(f"decode       {_spread(result.decode)} tokens/s over {result.new_tokens} tokens")
    print(f"peak memory  {result.peak_memory / 1e6:,.0f} MB")
    return 0


def _tune(args: argparse.Namespace) -> int:
    from .. import tuning
    from ..hub.resolve import resolve_model

    if args.device.upper() not in ("AUTO", "CPU"):
        raise RequestError(f"--tune is for the CPU, not for {args.device}", hint="leave out --device")
    if args.picture:
        raise RequestError("--tune reads no pictures", hint="leave out --picture")
    source = resolve_model(("CPU",), args.folder)
    result = tuning.tune(source, report=(lambda _: None) if args.json else print_text)
    if args.json:
        print_json(asdict(result) | {"path": str(result.path)})
        return 0
    for trial in result.trials:
        print_text(f"{trial.seconds:8.2f} s  {trial.gain:+6.1%}  {trial.name}")
    if result.kept.settings:
        found = tuning.describe_settings(result.kept.settings)
        print_text(f"{found} takes {result.kept.gain:.0%} less time, and is used from now on.")
        print_text("`edge data tuned --delete` removes it; what you set yourself comes first.")
    else:
        print_text(f"Nothing takes {tuning.MARGIN:.0%} less time than the engine's own settings, which stay.")
    return 0


def _spread(measure: "Summary", scale: float = 1.0) -> str:
    return f"{measure.median * scale:,.1f} ({measure.low * scale:,.1f} to {measure.high * scale:,.1f})"
