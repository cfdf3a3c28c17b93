"""`edge bundle`: make a folder that installs glm4-edge and a model without a network."""

import argparse

from .output import print_text

PLATFORMS = ("linux-x86_64", "windows-x86_64", "macos-arm64")


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `edge bundle`."""
    verb = verbs.add_parser(
        "bundle",
        help="make a folder that installs a model and this program without a network",
        description="Make a folder for a machine without a network: wheels, the model, licences, a kiosk's settings, "
        "installers for Linux, macOS and Windows, and checksums. The wheels are downloaded as pip is configured here.",
        epilog="Example:\n\n    edge bundle ./for-the-museum --model ./glm4-int4 --platform windows-x86_64",
    )
    verb.add_argument("out", help="the folder to create; it must not exist yet")
    verb.add_argument("--model", required=True, metavar="FOLDER", help="the model folder, or a name in `edge list`")
    verb.add_argument("--platform", choices=PLATFORMS, help="the machine's system (default: this one's)")
    verb.add_argument("--python", metavar="VERSION", help="its version of Python, such as 3.12 (default: this one)")
    verb.add_argument("--kiosk", metavar="FILE", help="a kiosk's settings to include (default: a short example)")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `edge bundle`; return the exit code."""
    from ..bundle.bundle import bundle
    from ..store.model_store import resolve_folder

    out = bundle(args.out, resolve_folder(args.model), platform=args.platform, python=args.python, kiosk=args.kiosk)
    print_text(f"{out}: copy it to the machine, and run install.sh or install.ps1 there")
    return 0
