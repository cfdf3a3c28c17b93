"""The benchmark of peers: what it asks of them, how it measures a process, and its tables. Peers are not needed."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.peers import alternate, conversions
from benchmarks.peers_report import ConversionCost, EngineSpeed, charts, markdown
from benchmarks.process import disk_usage, run_measured

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is Linux's")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ["edge convert"]),
        ({"optimum": "/o/python"}, ["edge convert", "optimum-cli"]),
        ({"llama": "/l/python"}, ["edge convert"]),
        ({"llama": "/l/python", "llama_cpp": Path("/l")}, ["edge convert", "llama.cpp Q4_0", "llama.cpp Q4_K_M"]),
    ],
)
def test_a_peer_that_is_not_given_is_left_out(given, names):
    peers = {"optimum": None, "llama": None, "llama_cpp": None}
    args = argparse.Namespace(checkpoint=Path("c"), scratch=Path("/s"), recipe="int4", **(peers | given))
    found = list(conversions(args))
    assert [conversion.name for conversion in found] == names
    assert all(any(str(one.folder / one.model) in command for command in one.commands) for one in found)


def test_each_round_begins_with_another_side():
    order = []
    sides = [argparse.Namespace(name=name) for name in "ab"]
    found = alternate(sides, 3, lambda side, number: order.append(side.name) or number)
    assert "".join(order) == "abbaab"
    assert found == {"a": [0, 1, 2], "b": [0, 1, 2]}


@linux
def test_a_command_is_measured_with_all_that_it_starts(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    child = "import time; x = b'x' * 80_000_000; time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); "
    written = f"open({str(folder / 'f')!r}, 'wb').write(b'x' * 200_000)"
    taken = run_measured([[sys.executable, "-c", parent + written]], folder, {})
    assert 80e6 < taken.anonymous < 300e6
    assert 0 < taken.cpu < taken.seconds + 5
    assert 200_000 <= taken.disk == disk_usage(folder)
    os.link(folder / "f", folder / "same")
    assert disk_usage(folder) == taken.disk
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_measured([[sys.executable, "-c", "raise SystemExit('no such model')"]], folder, {})
    assert b"no such model" in caught.value.output


def test_the_report_has_medians_spreads_and_ratios():
    def speed(rate):
        return EngineSpeed(2.0, [0.5] * 3, [rate] * 3, [1.0] * 3, [1 / rate] * 3, 4_000_000_000, 500_000_000, "flags")

    report = {
        "machine": {"cpu": "CPU", "cores": 2, "threads": 1, "features": ["avx2"], "versions": {"openvino": "2026"}},
        "load_average": [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0)],
        "conversion": {
            "edge convert": [
                ConversionCost(10.0, 20.0, 1_000_000_000, 0, 5),
                ConversionCost(30.0, 20.0, 1_000_000_000, 0, 5),
            ],
            "optimum-cli": [
                ConversionCost(40.0, 40.0, 4_000_000_000, 10, 5),
                ConversionCost(40.0, 40.0, 4_000_000_000, 10, 5),
            ],
        },
        "read": {"edge": 1_000_000_000, "llama.cpp Q4_0": 1_000_000_000},
        "bandwidth": 20e9,
        "running": {"edge": [speed(10.0), speed(12.0)], "llama.cpp Q4_0": [speed(20.0), speed(20.0)]},
    }
    text = markdown(report, ["llama_cpp"])
    assert "| edge convert | 20 (10 to 30) | 20 (20 to 20) | 1,000 (1,000 to 1,000) | 0 (0 to 0) |" in text
    assert "| edge convert over optimum-cli | 0.50 | 0.50 | 0.25 |" in text
    assert "55% of 20 GB/s" in text
    assert "Left out: --llama-cpp was not given." in text
    row = next(line for line in text.splitlines() if line.startswith("| edge over llama.cpp Q4_0"))
    assert row.count("0.55") == 3
    for name, chart in charts(report):
        assert ElementTree.fromstring(chart).tag.endswith("svg"), name
