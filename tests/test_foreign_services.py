"""The services of Windows and macOS, whose tools are not here: their files, and recorded answers of those tools."""

import plistlib
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge import service
from edge.cli import main
from edge.user_services import launch_agent, windows_task
from runtime.system.program_output import ProgramResult, decode_output, find_program, run_program

FOLDER = '/home/a b/100% & "$more" 模型'
SERVE = ("-P", "-m", "edge", "serve", FOLDER, "--port", "80", "--log-file")
SPACE = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
SID = "S-1-5-21-1004336348-1177238915-682003330-1001"


def described(platform, home, *more):
    return service.describe_service((FOLDER, "--port", "80", *more), platform, home)


def test_a_task_is_its_users_and_needs_no_administrator(tmp_path, monkeypatch):
    monkeypatch.setattr(windows_task, "current_user", lambda: SID)
    task = described("win32", tmp_path)
    root = ElementTree.fromstring(task.text.encode(task.encoding))
    assert root.findtext("t:Triggers/t:LogonTrigger/t:UserId", namespaces=SPACE) == SID
    principal = root.find("t:Principals/t:Principal", SPACE)
    assert [(child.tag.partition("}")[2], child.text) for child in principal] == [
        ("UserId", SID),
        ("LogonType", "InteractiveToken"),
        ("RunLevel", "LeastPrivilege"),
    ]
    assert principal.get("id") == root.find("t:Actions", SPACE).get("Context")
    assert root.findtext(".//t:Arguments", namespaces=SPACE) == subprocess.list2cmdline(SERVE)
    assert root.findtext(".//t:Command", namespaces=SPACE) == sys.executable


# The schema's sequences (its other groups may have any order), as Microsoft's page "Task Scheduler Schema" has them.
TRIGGER = ["Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit", "UserId", "Delay"]
GROUPS = {
    "Task": {"RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions"},
    "Triggers": {"LogonTrigger", "TimeTrigger"},
    "LogonTrigger": TRIGGER,
    "TimeTrigger": TRIGGER[:5],
    "Repetition": {"Interval", "Duration", "StopAtDurationEnd"},
    "Principal": {"UserId", "LogonType", "GroupId", "DisplayName", "RunLevel"},
    "Exec": {"Command", "Arguments", "WorkingDirectory"},
}


def test_the_task_has_the_schemas_elements_in_its_order():
    root = ElementTree.fromstring(windows_task.task_xml(("C:\\py.exe", "-m", "edge"), "PC\\A & B").encode("utf-16"))
    for element in root.iter():
        allowed = GROUPS.get(element.tag.partition("}")[2])
        names = [child.tag.partition("}")[2] for child in element]
        if allowed is not None:
            assert set(names) <= set(allowed), element.tag
        if isinstance(allowed, list):
            assert names == sorted(names, key=allowed.index), element.tag
    assert root.findtext(".//t:Principal/t:UserId", namespaces=SPACE) == "PC\\A & B"
    assert root.findtext(".//t:Priority", namespaces=SPACE) == "5"


def test_pythonw_runs_the_task_where_it_is_installed(tmp_path):
    (tmp_path / "pythonw.exe").touch()
    assert windows_task.windowless(str(tmp_path / "python.exe")) == str(tmp_path / "pythonw.exe")
    assert windows_task.windowless(str(tmp_path / "Python.exe")) == str(tmp_path / "pythonw.exe")
    assert windows_task.windowless(str(tmp_path / "app.exe")) == str(tmp_path / "app.exe")
    assert windows_task.windowless(str(tmp_path / "a/python.exe")) == str(tmp_path / "a/python.exe")


def test_a_log_file_of_the_users_own_stays(tmp_path):
    assert "--log-file mine.log" in described("win32", tmp_path, "--log-file", "mine.log").text
    assert described("win32", tmp_path, "--log-file", "mine.log").text.count("--log-file") == 1


def test_a_launch_agent(tmp_path):
    agent = described("darwin", tmp_path)
    plist = plistlib.loads(agent.text.encode())
    assert plist["ProgramArguments"] == [sys.executable, *SERVE]
    assert plist["RunAtLoad"] is True
    assert plist["Umask"] == 0o077
    assert plist["ProcessType"] == "Interactive"
    assert agent.path.name == f"{plist['Label']}.plist"


# `schtasks /Query /V /FO CSV /NH`, a row for each trigger: the language and code page of the system, the status, and
# the last result in the seventh column.
ROW = '"{host}","\\glm4-edge","{next}","{status}","{mode}","27.11.2026 08:00:01","{result}","x","pythonw.exe","N/A"'


def row(status, result, mode="Interactive only", following="N/A"):
    return ROW.format(host="PC", next=following, status=status, mode=mode, result=result)


ANSWERS = {
    "English, runs": (row("Running", 267009), "cp437", 0, True, "running"),
    "German, runs": (row("Wird ausgeführt", 267009, "Nur interaktiv"), "cp850", 0, True, "running"),
    "Chinese, runs": (row("正在运行", 267009, "只使用交互方式"), "cp936", 0, True, "running"),
    "Chinese, hexadecimal": (row("正在运行", "0x41301"), "cp936", 0, True, "running"),
    "French, ready": (row("Prêt", 267011), "cp850", 0, False, "not running: it has not run yet"),
    "German, stopped": (row("Bereit", 267014), "cp850", 0, False, "not running: it was stopped"),
    "Chinese, ended": (row("就绪", 1), "cp936", 0, False, "not running: it ended with 0x1"),
    "crashed": (row("Ready", -1073741819), "cp437", 0, False, "not running: it ended with 0xc0000005"),
    "ended well": (row("Ready", 0), "cp437", 0, False, "not running: it ended without an error"),
    "German, unknown": (
        "FEHLER: Das System kann die angegebene Datei nicht finden.",
        "cp850",
        1,
        False,
        "not running: FEHLER: Das System kann die angegebene Datei nicht finden.",
    ),
    "UTF-16": (row("Wird ausgeführt", 267009), "utf-16", 0, True, "running"),
    "UTF-8": (row("正在运行", 267009), "utf-8", 0, True, "running"),
    "empty": ("", "cp437", 0, False, "not running: status 0"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_state_of_a_task_in_any_language(name):
    text, encoding, code, running, words = ANSWERS[name]
    output = decode_output(f"{text}\r\n{text}\r\n".encode(encoding), encoding)
    state = windows_task.read_state(ProgramResult(code, output, ""))
    assert (state.running, state.text) == (running, words)


def test_bytes_of_another_code_page_are_no_error():
    """Python's own choice for German output, cp1252, has no character for cp850's ü."""
    with pytest.raises(UnicodeDecodeError):
        "ausgeführt".encode("cp850").decode("cp1252")
    assert decode_output("Wird ausgeführt".encode("cp850"), "cp1252") == "Wird ausgef\ufffdhrt"
    assert decode_output("正在运行".encode("cp936"), "cp936") == "正在运行"


@pytest.mark.parametrize(
    ("output", "sid"),
    [
        (f'"desktop-4f2\\anna","{SID}"\r\n', SID),
        (f'"pc\\m\ufffdller, hans","{SID}"\r\n', SID),
        ("FEHLER: Zugriff verweigert", ""),
        ("", ""),
    ],
)
def test_the_users_sid_is_read_from_whoami(output, sid):
    assert windows_task.read_sid(output) == sid


def test_without_whoami_the_user_has_a_name(monkeypatch):
    monkeypatch.setenv("USERDOMAIN", "PC")
    monkeypatch.setenv("USERNAME", "Anna")
    monkeypatch.setenv("PATH", "")
    assert windows_task.current_user() == "PC\\Anna"


AGENT = '{\n\t"LimitLoadToSessionType" = "Aqua";\n\t"Label" = "io.glm4-edge.serve";\n\t"LastExitStatus" = 256;\n%s};\n'


@pytest.mark.parametrize(
    ("code", "output", "running", "text"),
    [
        (0, AGENT % '\t"PID" = 812;\n', True, "running, process 812"),
        (0, AGENT % "", False, "not running"),
        (
            113,
            'Could not find service "io.glm4-edge.serve" in domain for port',
            False,
            'not running: Could not find service "io.glm4-edge.serve" in domain for port',
        ),
    ],
)
def test_the_state_of_a_launch_agent(code, output, running, text):
    state = launch_agent.read_state(ProgramResult(code, output, ""))
    assert (state.running, state.text) == (running, text)


TOOL = """#!/bin/sh
echo "$(basename "$0") $1" >> {asked}
[ "$1" = /End ] && echo "ERROR: no running instance" >&2 && exit 1
echo '"PC","glm4-edge","N/A","Running","x","y","267009"'
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it stands in for schtasks")
def test_a_task_is_installed_over_a_running_one_and_removed(tmp_path, monkeypatch, capsys, demo_folder):
    """With a schtasks that notes what it is asked. A task that does not run cannot be ended, which is no failure."""
    (tmp_path / "bin").mkdir()
    for name in ("schtasks", "whoami"):
        (tmp_path / "bin" / name).write_text(TOOL.format(asked=tmp_path / "asked"))
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(service.describe_service, "__defaults__", ("win32", None))
    assert main(["service", "install", str(demo_folder.path)]) == 0
    assert (tmp_path / "AppData/Local/glm4-edge/task.xml").read_bytes()[:2] == b"\xff\xfe"
    capsys.readouterr()
    assert main(["service", "status"]) == 0
    assert capsys.readouterr().out == "running\n"
    assert main(["service", "remove"]) == 0
    asked = [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("schtasks")]
    assert asked == [f"schtasks {word}" for word in ("/End", "/Create", "/Run", "/Query", "/End", "/Delete")]


def test_programs_of_windows_are_those_of_system32(tmp_path, monkeypatch):
    """Not those of the current folder, where Windows' own search begins."""
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32/schtasks.exe").touch()
    (tmp_path / "whoami.exe").touch()
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert find_program("schtasks", windows=True) == str(tmp_path / "System32" / "schtasks.exe")
    assert find_program("whoami", windows=True) is None


def test_a_program_that_hangs_is_not_waited_for():
    with pytest.raises(TimeoutError, match="did not end within"):
        run_program((sys.executable, "-c", "import time; time.sleep(60)"), 0.2)
