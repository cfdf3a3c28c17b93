"""The devices of this machine by the names that `device=` and `--device` take."""

from dataclasses import dataclass

from .machine import Machine, detect


@dataclass(frozen=True, slots=True)
class Device:
    """A device, sizes in bytes.

    - `name`: for `device=`, such as "CPU", "GPU", "NPU", "torch:cuda" or a server's URL.
    - `description`: the hardware's own name.
    - `memory` and `free`: of the device; of the machine, where the device shares its memory. 0 where they are unknown.

    Example:
        for device in edge.devices():
            print(f"{device.name:10} {device.description}  {device.free / 1e9:.0f} GB free")
    """

    name: str
    description: str
    memory: int = 0
    free: int = 0


def list_devices(machine: Machine | None = None) -> tuple[Device, ...]:
    """Return the devices of this machine, the CPU first. Takes some tenths of a second, as OpenVINO loads its plugins.

    An NVIDIA card is listed for the engine torch, whether that is installed or not; servers are those of the
    environment variable EDGE_SERVERS.

    Example:
        [device.name for device in edge.devices()]  # ['CPU', 'GPU']
    """
    machine = machine or detect()
    found = [Device("CPU", machine.cpu.name, machine.memory, machine.free)]
    found += [
        Device(gpu.device, gpu.name, gpu.memory, min(gpu.memory, machine.free) if gpu.integrated else gpu.memory)
        for gpu in machine.gpus
    ]
    found += [Device(npu.device, npu.name, machine.memory, machine.free) for npu in machine.npus]
    found += [
        Device("torch:cuda" if number == 0 else f"torch:cuda:{number}", card.name, card.memory, card.free)
        for number, card in enumerate(machine.cuda)
    ]
    return (*found, *(Device(url, "a server", 0, 0) for url in machine.servers))
