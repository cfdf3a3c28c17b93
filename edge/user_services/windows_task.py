"""A task of Windows' Task Scheduler that runs while its user is logged on: its XML, and the state schtasks reports.

The elements are those of Microsoft's Task Scheduler Schema, in its order. What a user without an administrator's rights
may register is narrow: a logon trigger for this user alone, the user's own token, and the least privileges. Without
<UserId> the trigger is for everybody's logon, and `schtasks /Create` answers "Access is denied".
"""

import csv
import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import escape

from runtime.errors import RequestError
from runtime.system.program_output import ProgramResult, run_program

from .state import ServiceState

_SID = "S-1-"
_VARIABLE = re.compile(r"%[^%]+%|\$\(")
_LAST_RESULT = 6  # column of `schtasks /Query /V /FO CSV /NH`; the words of the others are translated
_NEVER_RUN = 0x41303  # SCHED_S_TASK_HAS_NOT_RUN
_RUNNING = 0x41301  # SCHED_S_TASK_RUNNING
_RESULTS = {_NEVER_RUN: "it has not run yet", 0x41306: "it was stopped", 0: "it ended without an error"}


def task_xml(command: Sequence[str], user: str) -> str:
    """Return a task that runs the command at the logon of `user`, a SID or DOMAIN\\NAME.

    - A second trigger looks every minute whether it still runs: Task Scheduler's own restart after a failure is for
      tasks that could not be started, not for programs that end with an error.
    - Priority 5 is a program's usual one. A task's default, 7, is for work in the background: less of the CPU, and
      lower priority for memory and disk.
    - PT0S: no time limit.

    Raises RequestError for a word that Task Scheduler would change: it replaces %NAME% and $(…), and has no way to
    write them.
    """
    for word in command:
        if found := _VARIABLE.search(word):
            raise RequestError(f"{word} has {found[0]}, which Windows would replace", hint="rename the folder")
    program, *rest = command
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>GLM-4 for OpenAI's clients (glm4-edge)</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{escape(user)}</UserId>
    </LogonTrigger>
    <TimeTrigger>
      <Enabled>true</Enabled>
      <StartBoundary>2000-01-01T00:00:00</StartBoundary>
      <Repetition>
        <Interval>PT1M</Interval>
      </Repetition>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{escape(user)}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <RunOnlyIfIdle>false</RunOnlyIfIdle>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(program)}</Command>
      <Arguments>{escape(subprocess.list2cmdline(rest))}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def windowless(interpreter: str) -> str:
    """Return pythonw.exe beside an interpreter, which opens no console window; the interpreter itself if there is
    none."""
    path = Path(interpreter)
    if not path.stem.lower().startswith("python"):
        return interpreter
    pythonw = path.with_name(f"pythonw{path.suffix}")
    return str(pythonw) if pythonw.is_file() else interpreter


def current_user() -> str:
    """Return this user's SID according to whoami, whatever the language of the system; or else DOMAIN\\NAME."""
    with suppress(OSError):
        if sid := read_sid(run_program(("whoami", "/user", "/fo", "csv", "/nh")).output):
            return sid
    domain, name = os.environ.get("USERDOMAIN", ""), os.environ.get("USERNAME", "")
    return f"{domain}\\{name}" if domain else name


def read_sid(output: str) -> str:
    """Return the SID in the output of `whoami /user /fo csv /nh`; "" if there is none."""
    for row in csv.reader(output.splitlines()):
        if row and row[-1].startswith(_SID):
            return row[-1]
    return ""


def read_state(result: ProgramResult) -> ServiceState:
    """Read the output of `schtasks /Query /V /FO CSV /NH`, with a row for each trigger. The status is a word in the
    language of the system; the last result is a number in all of them."""
    found = []
    for row in csv.reader(result.output.splitlines()):
        with suppress(ValueError, IndexError):
            found.append(int(row[_LAST_RESULT].strip(), 0))
    if result.code or not found:
        return ServiceState(False, f"not running: {result.first_line}")
    if _RUNNING in found:
        return ServiceState(True, "running")
    last = found[0] & 0xFFFFFFFF
    return ServiceState(False, f"not running: {_RESULTS.get(last, f'it ended with {last:#x}')}")
