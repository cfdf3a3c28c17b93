"""A hub on this machine: as much of its API as a download of a snapshot asks for, and the faults of a bad day."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

REPOSITORY = "zai-org/GLM-4-9B-0414"
MODELSCOPE_REPOSITORY = "ZhipuAI/GLM-4-9B-0414"
COMMIT = "a" * 40
Fault = Callable[["Request", str], bool]  # answers, or returns False for the hub to do it


class Request(BaseHTTPRequestHandler):
    """One question. The server holds `files`, a `fault`, and what was `asked`: method, path, first byte wanted."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.handle_path()

    def do_GET(self):
        self.handle_path()

    def handle_path(self):
        path = self.path.split("?")[0]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.server.asked.append((self.command, path, start))
        if self.server.fault and self.server.fault(self, path):
            return
        if path.startswith("/api/v1/models/"):
            self.answer_as_modelscope(start)
        elif path.startswith(f"/api/models/{REPOSITORY}"):
            revision = path.partition("/revision/")[2] or path.partition("/tree/")[2] or "main"
            commit = revision if revision in self.server.revisions.values() else self.server.revisions.get(revision)
            if commit is None:
                self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return
            files = self.server.files_at(commit)
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "b" * 40} for name, data in files.items()]
            info = {"id": REPOSITORY, "sha": commit, "siblings": siblings}
            self.send(200, json.dumps(tree if "/tree/" in path else info).encode())
        elif path.startswith(f"/{REPOSITORY}/resolve/"):
            commit, name = path.removeprefix(f"/{REPOSITORY}/resolve/").split("/", 1)
            self.send_file(self.server.files_at(commit)[name], start, commit)
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def answer_as_modelscope(self, start):
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        commit = {"master": COMMIT}.get(query["Revision"]) or self.server.revisions.get(query["Revision"])
        if (
            url.path.removeprefix(f"/api/v1/models/{MODELSCOPE_REPOSITORY}/") not in ("repo", "repo/files")
            or not commit
        ):
            self.send(404, b'{"Code": 10010205001, "Message": "not found", "Success": false}')
            return
        files = self.server.files_at(commit)
        if url.path.endswith("/repo"):
            self.send_file(files[query["FilePath"]], start)
            return
        listed = [
            {"Path": name, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ]
        folders = [{"Path": "figures", "Type": "tree", "Size": 0, "Sha256": ""}]
        self.send(200, json.dumps({"Code": 200, "Data": {"Files": [*folders, *listed]}, "Success": True}).encode())

    def send_file(self, data: bytes, start: int = 0, commit: str = COMMIT, *, cut: int | None = None) -> None:
        """From byte `start` on; with `cut`, the connection ends after so many bytes."""
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send(206 if start else 200, data[start:], headers, cut=cut)

    def send(self, status: int, data: bytes = b"", headers: Mapping[str, str] = {}, *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.server.sent += len(data[:cut])
            self.wfile.write(data[:cut])
            self.wfile.flush()
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], fault: Fault | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.files, self.fault = files, fault
        self.revisions = {"main": COMMIT}  # names, and the commits that they stand for
        self.others: dict[str, Mapping[str, bytes]] = {}  # the files of other commits
        self.asked: list[tuple[str, str, int]] = []
        self.sent = 0  # bytes of bodies
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, revision: str, files: Mapping[str, bytes]) -> None:
        """Adds a branch or tag with files of its own."""
        commit = hashlib.sha1(revision.encode()).hexdigest()
        self.revisions[revision], self.others[commit] = commit, files

    def files_at(self, commit: str) -> Mapping[str, bytes]:
        return self.others.get(commit, self.files)

    def handle_error(self, *_):
        pass  # a client that hangs up


@contextmanager
def hub(files: Mapping[str, bytes], fault: Fault | None = None) -> Iterator[Hub]:
    server = Hub(files, fault)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def refuses(status: int, body: bytes = b"{}", **headers: str) -> Fault:
    """Answers every question so; `X_Error_Code` is the header X-Error-Code."""

    def fault(request: Request, path: str) -> bool:
        request.send(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return fault


def portal(request: Request, path: str) -> bool:
    """What a network answers before one has logged in."""
    request.send(200, b"<html>Log in</html>", {"Content-Type": "text/html"})
    return True


def portal_elsewhere(request: Request, path: str) -> bool:
    if path == "/login":
        return portal(request, path)
    request.send(302, headers={"Location": "/login"})
    return True


def portal_for_files(request: Request, path: str) -> bool:
    return "/resolve/" in path and portal(request, path)


def another_service(request: Request, path: str) -> bool:
    request.send(200, b'{"ok": true}')
    return True


def breaks_off(request: Request, path: str) -> bool:
    """Every download of weights ends in the middle."""
    if request.command == "HEAD" or not path.endswith(".safetensors"):
        return False
    data = request.server.files[path.rsplit("/", maxsplit=1)[-1]]
    request.send_file(data, cut=len(data) // 2)
    return True


def breaks_off_once() -> Fault:
    """The first download of weights ends in the middle."""
    broken = []

    def fault(request: Request, path: str) -> bool:
        if broken or not breaks_off(request, path):
            return False
        broken.append(path)
        return True

    return fault


def hangs_up(request: Request, path: str) -> bool:
    request.close_connection = True
    return True


def is_silent(request: Request, path: str) -> bool:
    time.sleep(60)
    return True
