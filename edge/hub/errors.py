"""Map every exception of a download to a CheckpointError that names the cause and the cure."""

import errno
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from runtime.errors import CheckpointError
from runtime.system import network

from .hubs import HUGGING_FACE, Hub

_CONNECT = "connect to the network and run the command again (it resumes), pass the path of a local folder, or"
_RESUME = "run the command again: the download resumes"
_MOVE = "or set {cache} to a folder elsewhere"
_ERRNO = {  # {cache} is the variable of the hub's cache
    errno.ENOSPC: ("the disk is full", f"free some space, {_MOVE}"),
    errno.EDQUOT: ("your quota of disk space is used up", f"free some space, {_MOVE}"),
    errno.EACCES: ("permission denied", f"change its permissions, {_MOVE}"),
    errno.EPERM: ("permission denied", f"change its permissions, {_MOVE}"),
    errno.EROFS: ("the file system is read-only", "set {cache} to a folder that can be written"),
    errno.ENOTDIR: ("a part of this path is a file", "set {cache} to a folder"),
    errno.EEXIST: ("there is a file in the place of a folder", "set {cache} to a folder"),
    errno.EISDIR: ("there is a folder in the place of a file", f"remove it, {_MOVE}"),
    errno.ENAMETOOLONG: ("the path is too long", "set {cache} to a folder with a shorter name"),
    errno.EFBIG: ("the file is larger than the file system, or a limit, allows", "set {cache} to a folder elsewhere"),
    errno.EIO: ("the disk reports an error", f"check the disk, {_MOVE}"),
}
_DISK_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)  # never from a socket
_BAD_TOKEN = {"UnicodeEncodeError", "LocalProtocolError", "InvalidHeader"}
_NOT_THE_HUB = {"JSONDecodeError", "DecodingError", "FileMetadataError", "ListingError"}


def map_hub_error(
    exc: Exception, repository: str, endpoint: str, cache: str, *, hub: Hub = HUGGING_FACE, revision: str | None = None
) -> CheckpointError:
    """Return the error for an exception while `repository` is downloaded from the hub at `endpoint` to `cache`."""
    chain = list(network.iterate_causes(exc))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    if "OfflineModeIsEnabled" in names:
        return _error(
            f"{repository} is not in the cache, and HF_HUB_OFFLINE is set",
            "unset it, or pass the path of a local folder",
        )
    if "HFValidationError" in names:
        return _error(
            f"{repository!r} is not a valid model name",
            "choose one that `edge models` lists, or pass the path of a local folder",
        )
    if "GatedRepoError" in names:
        return _error(
            f"{repository} requires you to accept its terms first", "accept them on its page, then `hf auth login`"
        )
    if "RevisionNotFoundError" in names:
        return _error(
            f"{repository} has no revision {revision!r} on {hub.title}",
            "pass one of its branches, tags or commits, or leave out --revision",
        )
    responses = (getattr(each, "response", None) for each in chain)
    if (response := next((found for found in responses if found is not None), None)) is not None:
        return _http_error(response, repository, endpoint, hub, missing="RepositoryNotFoundError" in names)
    if error := _file_system_error(chain, repository, cache, hub):
        return error
    if names & _BAD_TOKEN:
        return _error(
            "your token contains characters that are not allowed in a token",
            f"correct {hub.access_variable}, or {hub.login} again",
        )
    if fault := network.explain(exc, endpoint):
        if fault.hint:
            hint = _RESUME if fault.hint == network.TRY_AGAIN else fault.hint
            return _error(
                f"there is no folder {repository!r} here, and the model cannot be downloaded: {fault.cause}", hint
            )
        return _error(
            f"there is no folder {repository!r} here, and {hub.title} cannot be reached: {fault.cause}",
            f"{_CONNECT} {hub.elsewhere}",
        )
    if "Consistency check" in str(exc):
        return _error(f"{repository} cannot be downloaded: a file arrived damaged or incomplete", _RESUME)
    host = urlsplit(endpoint).hostname
    if names & _NOT_THE_HUB or _failed_inside_library(exc):
        return _error(
            f"{repository} cannot be downloaded: {host} does not respond like {hub.title}",
            "if this network requires a login in a browser, log in first; "
            f"otherwise check {hub.endpoint_variable} and the proxies",
        )
    what = " ".join(str(exc).split())[:200]
    return _error(
        f"{repository} cannot be downloaded: {type(exc).__name__}: {what}",
        f"check {hub.cache_variable}, {hub.endpoint_variable} and the proxies, or pass the path of a local folder",
    )


def _failed_inside_library(exc: BaseException) -> bool:
    """Return whether the hub's library failed on a response that it did not expect."""
    trace = exc.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = str(trace.tb_frame.f_globals.get("__name__", "")) if trace else ""
    return isinstance(exc, KeyError | TypeError | AttributeError | AssertionError) and where.startswith("huggingface_")


def _error(message: str, hint: str) -> CheckpointError:
    return CheckpointError(message, hint=hint)


def _http_error(response: Any, repository: str, endpoint: str, hub: Hub, *, missing: bool) -> CheckpointError:
    """Return the error for a response's status."""
    status, headers = response.status_code, response.headers
    what = " ".join((headers.get("X-Error-Message") or "").split())[:200]
    login = f"{hub.login} again, or correct {hub.access_variable}"
    if missing or status == 404:
        return _error(
            f"there is no folder {repository!r} here, and no such model on {hub.title}",
            f"choose one that `edge models` lists; for a private model, {hub.login} first",
        )
    match status:
        case 401 if "authorization" in {name.lower() for name in response.request.headers}:
            return _error(
                f"{repository} cannot be downloaded: {hub.title} rejects your token, which may have expired", login
            )
        case 401:
            return _error(f"{repository} cannot be downloaded: {hub.title} requires a login", hub.login)
        case 403:
            why = f" ({what})" if what else ""
            return _error(
                f"you have no access to {repository} on {hub.title}{why}",
                f"accept its terms on its page, and log in with a token that may read it: {hub.login}",
            )
        case 407:
            return _error(
                f"{repository} cannot be downloaded: the proxy requires a user name and password",
                "add them to the proxy's variable, as http://USER:PASSWORD@HOST:PORT",
            )
        case 429:
            seconds = _retry_seconds(headers)
            return _error(
                f"{repository} cannot be downloaded: {hub.title}'s rate limit is reached",
                f"try again {f'in {seconds} s' if seconds else 'later'}; or {hub.login}: the limit is higher",
            )
        case 511:
            return _error(
                f"{repository} cannot be downloaded: this network requires a login first", "log in with a browser"
            )
    if status >= 500:
        whom = hub.title if network.find_proxy(endpoint) is None else f"{hub.title}, or a proxy in front of it,"
        return _error(f"{repository} cannot be downloaded: {whom} fails ({status})", f"wait a while, then {_RESUME}")
    return _error(
        f"{repository} cannot be downloaded: {hub.title} rejects the request ({status}) {what}".rstrip(),
        f"check {hub.endpoint_variable}",
    )


def _retry_seconds(headers: Any) -> str:
    """Return the seconds until the rate limit is lifted; "" where the hub does not say."""
    later = headers.get("Retry-After") or ""
    if found := re.search(r"\bt=(\d+)", headers.get("RateLimit") or headers.get("ratelimit") or ""):
        return found[1]
    return later if later.isdigit() and later != "0" else ""


def _file_system_error(chain: Sequence[BaseException], repository: str, cache: str, hub: Hub) -> CheckpointError | None:
    """Return the error for a failed file operation, if it is one. hf_xet has errno only in its message."""
    for each in chain:
        code, path, words = None, None, ""
        if isinstance(each, OSError):
            code, path, words = each.errno, each.filename, each.strerror or ""
        elif found := re.search(r"\(os error (\d+)\)", str(each)):
            code = int(found[1])
        if code in _ERRNO and (path or code in _DISK_ERRNO):
            why, hint = _ERRNO[code]
            return _error(
                f"{repository} cannot be downloaded into {path or cache}: {why}", hint.format(cache=hub.cache_variable)
            )
        if code and path:
            return _error(
                f"{repository} cannot be downloaded: {path}: {words}",
                _MOVE.removeprefix("or ").format(cache=hub.cache_variable),
            )
    return None
