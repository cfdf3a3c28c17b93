"""The hubs from which models are downloaded by name: their addresses, and the variables that configure each."""

import os
from dataclasses import dataclass
from typing import Literal

from runtime.errors import CheckpointError
from runtime.system import network

HubName = Literal["huggingface", "modelscope"]


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub: `title` in messages, the `address` unless `endpoint_variable` sets another, the variables of its cache and
    of the user's token, and how a user logs in. `elsewhere` is the cure where it cannot be reached."""

    name: HubName
    title: str
    address: str
    endpoint_variable: str
    cache_variable: str
    access_variable: str
    login: str
    elsewhere: str
    files_page: str

    def page(self, repository: str) -> str:
        """Return the address of a repository's files, for a browser."""
        return f"{self.address}{self.files_page.format(repository)}"

    def endpoint(self) -> str:
        """Return its URL. Raises CheckpointError if the variable is not one."""
        found = os.environ.get(self.endpoint_variable, self.address)
        try:
            network.parse_server_url(found)
        except ValueError as exc:
            raise CheckpointError(
                f"{self.endpoint_variable} is {found!r}, not the URL of a hub: {exc}",
                hint=f"unset it, or set it to {self.address}",
            ) from exc
        return found.rstrip("/")


HUGGING_FACE = Hub(
    name="huggingface",
    title="the hub",
    address="https://huggingface.co",
    endpoint_variable="HF_ENDPOINT",
    cache_variable="HF_HOME",
    access_variable="HF_TOKEN",
    login="run `hf auth login`",
    elsewhere="set HF_ENDPOINT to a mirror, or use --hub modelscope",
    files_page="/{}/tree/main",
)
MODELSCOPE = Hub(
    name="modelscope",
    title="ModelScope",
    address="https://www.modelscope.cn",
    endpoint_variable="MODELSCOPE_ENDPOINT",
    cache_variable="MODELSCOPE_CACHE",
    access_variable="MODELSCOPE_API_TOKEN",
    login="set MODELSCOPE_API_TOKEN",
    elsewhere="use --hub huggingface",
    files_page="/models/{}/files",
)
HUBS = {hub.name: hub for hub in (HUGGING_FACE, MODELSCOPE)}


def get_hub(name: str) -> Hub:
    """Return the hub called `name`. Raises CheckpointError for another name."""
    for hub in HUBS.values():
        if hub.name == name:
            return hub
    raise CheckpointError(f"there is no hub {name!r}", hint=f"choose {' or '.join(HUBS)}")
