"""Settings of MCP servers: the `mcpServers` JSON that desktop apps and editors share, command lines and URLs.

The format has no standard. Read here are the keys that most clients document: command, args, env, cwd, url, headers,
type, disabled, and `${VAR}`, `${VAR:-default}` and `${env:VAR}` in texts. Our own is `allow`, also spelled
`allowedTools`. Keys that other clients have added are left out with a Notice.
"""

import os
import re
import shlex
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from runtime import strict_json
from runtime.errors import Notice, RequestError
from runtime.system.files import expand_user, read_bounded
from runtime.system.network import parse_server_url
from runtime.text import one_line, quoted

MAX_BYTES = 2**20
MAX_SERVERS = 64
EVERY_TOOL = "*"
_TYPES: dict[str, Literal["stdio", "http", "sse"]] = {
    "stdio": "stdio",
    "local": "stdio",
    "http": "http",
    "remote": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamablehttp": "http",
    "sse": "sse",
}
_KEYS = frozenset("command args env cwd url headers type transport disabled enabled allow allowedTools".split())
_INFORMATIVE = frozenset("name description icon title version homepage note comment $schema".split())
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}")
_HINT = 'an entry looks like {"command": "uvx", "args": ["mcp-server-time"]} or {"url": "https://HOST/mcp"}'


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """An MCP server: a `command` that talks over its standard streams, or a `url`.

    `allow` has the names of the tools that are offered, as the server spells them; "*" stands for all of them. None is
    no list: all tools are offered, to somebody who approves each call.
    """

    name: str
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None
    url: str = ""
    transport: Literal["stdio", "http", "sse"] = "stdio"
    headers: tuple[tuple[str, str], ...] = ()
    allow: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"ServerConfig({self.name!r})"  # the rest may have passwords

    def allows(self, tool: str) -> bool:
        """Return whether a tool of the server is offered."""
        return self.allow is None or tool in self.allow or EVERY_TOOL in self.allow

    @property
    def listed_names(self) -> frozenset[str]:
        """The names in `allow`."""
        return (self.allow or frozenset()) - {EVERY_TOOL}


def read_servers(source: "str | os.PathLike[str] | Mapping[str, Any]") -> tuple[ServerConfig, ...]:
    """Return the servers of a configuration file, a URL, a command line, or a dict in the layout of a file or of one of
    its entries. Raises RequestError."""
    if isinstance(source, Mapping):
        return _parse(source, "the configuration")
    if not isinstance(source, str | os.PathLike):
        raise RequestError(
            f"an MCP server is a text or a dict, not {type(source).__name__}",
            hint="pass a command line, a URL, the path of a JSON file, or a dict",
        )
    text = os.fspath(source).strip()
    if isinstance(source, str) and re.match(r"https?://", text, re.IGNORECASE):
        return (_parse_entry("", {"url": text}, "the URL"),)
    is_path = text.lower().endswith(".json") and (len(text.split()) == 1 or os.path.exists(text))
    if not isinstance(source, str) or is_path:
        return _parse(_read_file(text), text)
    if not text:
        raise RequestError("the MCP server has no command", hint="pass a command line, a URL or a JSON file")
    return (_parse_entry("", {"command": text}, "the command line"),)


def _read_file(path: str) -> Mapping[str, Any]:
    try:
        data = strict_json.parse(read_bounded(expand_user(path), MAX_BYTES).removeprefix(b"\xef\xbb\xbf"))
    except OSError as exc:
        raise RequestError(
            f"{path} cannot be read: {exc.strerror or exc}", hint="pass the path of an MCP configuration, a JSON file"
        ) from exc
    except ValueError as exc:
        raise RequestError(f"{path} is not JSON: {one_line(exc)}", hint="remove comments and trailing commas") from exc
    if not isinstance(data, Mapping):
        raise RequestError(f"{path} has no JSON object", hint=_HINT)
    return data


def _parse(data: Mapping[str, Any], where: str) -> tuple[ServerConfig, ...]:
    entries = next((data[key] for key in ("mcpServers", "servers") if key in data), None)
    if entries is None and ("command" in data or "url" in data):
        entries = {str(data.get("name") or ""): data}
    if not isinstance(entries, Mapping) or not entries:
        raise RequestError(f"{where} has no mcpServers", hint=f'write {{"mcpServers": {{"NAME": …}}}}; {_HINT}')
    if len(entries) > MAX_SERVERS:
        raise RequestError(f"{where} has {len(entries):,} MCP servers", hint=f"at most {MAX_SERVERS} are supported")
    servers = []
    for name, entry in entries.items():
        what = f"{where}: the MCP server {quoted(name)}" if name else where
        if not isinstance(entry, Mapping):
            raise RequestError(f"{what} is not an object", hint=_HINT)
        if not (_flag(entry, "disabled", False, what) or not _flag(entry, "enabled", True, what)):
            servers.append(_parse_entry(name, entry, what))
    if not servers:
        raise RequestError(f"{where} has no MCP server that is enabled", hint='remove "disabled" from one')
    return tuple(servers)


def _parse_entry(name: str, entry: Mapping[str, Any], what: str) -> ServerConfig:
    if unknown := sorted(map(str, entry.keys() - _KEYS - _INFORMATIVE)):
        message = f"{what} has settings that are not supported here and are ignored: {one_line(', '.join(unknown))}"
        warnings.warn(message, Notice, stacklevel=2)
    command, url = _text(entry, "command", what), _text(entry, "url", what)
    if bool(command) == bool(url):
        found = "both a command and a url" if command else "neither a command nor a url"
        raise RequestError(f"{what} has {found}", hint=_HINT)
    kind = _text(entry, "type", what) or _text(entry, "transport", what) or ("http" if url else "stdio")
    transport = _TYPES.get(kind.lower())
    if transport is None or (transport == "stdio") != bool(command):
        raise RequestError(
            f"{what} has the type {quoted(kind)}", hint='"stdio" for a command; "http" or "sse" for a url'
        )
    allow = _texts(entry, "allow" if "allow" in entry else "allowedTools", what)
    config = ServerConfig(name, transport=transport, allow=None if allow is None else frozenset(allow))
    if url:
        try:
            address = parse_server_url(url)
        except ValueError as exc:
            raise RequestError(f"{what}: its url is not valid: {exc}", hint="write it as https://HOST/mcp") from exc
        return replace(config, name=name or address.hostname or "", url=url, headers=_pairs(entry, "headers", what))
    given = _texts(entry, "args", what)
    words = _split(command, what) if given is None and not os.path.exists(command) else (command, *(given or ()))
    return replace(
        config,
        name=name or _program_name(words),
        command=words,
        env=_pairs(entry, "env", what),
        cwd=str(expand_user(cwd)) if (cwd := _text(entry, "cwd", what)) else None,
    )


def with_allow(servers: Sequence[ServerConfig], allow: Collection[str] | None) -> tuple[ServerConfig, ...]:
    """Return the servers with another allow list, unless that is None. Raises RequestError."""
    if allow is None:
        return tuple(servers)
    if isinstance(allow, str) or not all(isinstance(name, str) for name in allow):
        raise RequestError("allow must be a list of the names of tools", hint='such as ["get_current_time"]')
    return tuple(replace(server, allow=frozenset(allow)) for server in servers)


def _split(command: str, what: str) -> tuple[str, ...]:
    """Split a command line as a POSIX shell does; on Windows, where a backslash separates folders, without escapes."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt":
        lexer.escape = ""
    try:
        words = tuple(lexer)
    except ValueError as exc:
        raise RequestError(f"{what} {quoted(command)} is not complete: {exc}", hint="close its quotes") from exc
    return words


def _program_name(command: Sequence[str]) -> str:
    """Return a name for a server that has none: that of its package, such as "time" of `uvx mcp-server-time`."""
    words = [word for word in command if not word.startswith("-")]
    launched = (
        words[1:] if re.fullmatch(r"(uvx|npx|python[\d.]*|node|docker|uv)(\.exe|\.cmd)?", _stem(words[0])) else ()
    )
    name = _stem(next(iter(launched), words[0]))
    return re.sub(r"^(mcp[-_]server[-_]|server[-_]|mcp[-_])|([-_]mcp|[-_]server)$", "", name) or name


def _stem(word: str) -> str:
    return re.sub(r"\.(py|js|exe|cmd)$", "", re.split(r"[/\\]", word)[-1].partition("@")[0] or word)


def _flag(entry: Mapping[str, Any], key: str, default: bool, what: str) -> bool:
    value = entry.get(key, default)
    if not isinstance(value, bool):
        raise RequestError(f"{what}: {key} is {quoted(value)}", hint="it may be true or false")
    return value


def _text(entry: Mapping[str, Any], key: str, what: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or "\x00" in value:
        raise RequestError(f"{what}: {key} is {quoted(value)}", hint="it has to be a text")
    return _expand(value, what)


def _texts(entry: Mapping[str, Any], key: str, what: str) -> tuple[str, ...] | None:
    values = entry.get(key)
    if values is None:
        return None
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise RequestError(f"{what}: {key} is {quoted(values)}", hint="it has to be a list of texts")
    return tuple(_text({key: value}, key, what) for value in values)


def _pairs(entry: Mapping[str, Any], key: str, what: str) -> tuple[tuple[str, str], ...]:
    values = entry.get(key, {})
    if not isinstance(values, Mapping):
        raise RequestError(f"{what}: {key} is {quoted(values)}", hint="it has to be an object of texts")
    return tuple(_iterate_pairs(values, key, what))


def _iterate_pairs(values: Mapping[Any, Any], key: str, what: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not str(name).isprintable() or "=" in str(name):
            raise RequestError(f"{what}: {quoted(name)} in {key} is not a text", hint="it has to be an object of texts")
        expanded = _text({key: text}, key, what)
        if key == "headers" and not (expanded.isprintable() and expanded.isascii() and str(name).isascii()):
            raise RequestError(f"{what}: the header {quoted(name)} is not ASCII", hint="write it in ASCII characters")
        yield str(name), expanded


def _expand(text: str, what: str) -> str:
    """Replace `${VAR}`, `${env:VAR}` and `${VAR:-default}`. Raises RequestError for a variable that is not set."""
    if "${input:" in text:
        raise RequestError(
            f"{what}: {quoted(text)} asks an editor for input", hint="write ${VAR} and set that variable"
        )

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found and match[2] is not None:
            return match[2]
        if found is None:
            raise RequestError(
                f"{what}: the environment variable {match[1]} is not set", hint=f"set it, or write ${{{match[1]}:-…}}"
            )
        return found

    return _VARIABLE.sub(value, text)
