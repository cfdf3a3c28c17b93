"""A launch agent of macOS: its property list, and the state that launchctl reports."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from runtime.system.program_output import ProgramResult

from .state import ServiceState

LABEL = "io.glm4-edge.serve"
_PID = re.compile(r'^\s*"PID" = (\d+);', re.MULTILINE)  # launchctl writes English everywhere
_UMASK = 0o077  # a property list has it in decimal


def agent_plist(command: Sequence[str]) -> str:
    """Return a launch agent's property list; see launchd.plist(5). Its files are for the user alone."""
    words = "\n".join(f"        <string>{escape(word)}</string>" for word in command)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>{LABEL}</string>
    <key>ProgramArguments</key>
    <array>
{words}
    </array>
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <dict>
        <key>SuccessfulExit</key>
        <false/>
    </dict>
    <key>ProcessType</key>
    <string>Interactive</string>
    <key>Umask</key>
    <integer>{_UMASK}</integer>
</dict>
</plist>
"""


def read_state(result: ProgramResult) -> ServiceState:
    """Read the output of `launchctl list LABEL`: it has the process id while the agent runs."""
    if result.code == 0 and (found := _PID.search(result.output)):
        return ServiceState(True, f"running, process {found[1]}")
    return ServiceState(False, f"not running: {result.first_line}" if result.code else "not running")
