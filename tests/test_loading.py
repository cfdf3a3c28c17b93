"""Loading a model: its first step is made before anybody waits, its progress is told, and it can be cancelled."""

import sys
import time

import psutil
import pytest

import edge
from runtime.backends.backend import Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.paged.cache_reserve import reserve_cache
from runtime.backends.openvino.process import client
from runtime.progress import Progress
from runtime.sampling import SamplingParams


class Stopped(Exception):
    pass


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(client, "_REPORT", 0.01)


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_the_progress_of_a_load(demo_folder, often):
    seen = []
    with edge.Chat(demo_folder, device="CPU", progress=seen.append) as chat:
        before_the_first = len(seen)
        assert chat.send("Hi", max_new_tokens=4).text
    assert len(seen) == before_the_first > 1
    assert {report.name for report in seen} == {"load"}
    done = [report.done for report in seen]
    assert done == sorted(done)
    assert seen[-1] == Progress("load", done=seen[-1].total, total=seen[-1].total)
    assert all(report.done < report.total for report in seen[:-1])


@pytest.mark.parametrize("after", [1, 10**9], ids=["at once", "at the end"])
def test_what_progress_raises_ends_the_load(demo_folder, often, after):
    before = children()

    def stop(report):
        if report.done >= min(after, report.total):
            raise Stopped

    with pytest.raises(Stopped):
        edge.Model(demo_folder, device="CPU", progress=stop)
    end = time.monotonic() + 10
    while children() - before and time.monotonic() < end:
        time.sleep(0.05)
    assert children() <= before


def test_progress_must_be_a_function(demo_folder):
    with pytest.raises(edge.RequestError, match="progress"):
        edge.Model(demo_folder, progress=True)


@pytest.mark.parametrize("lookup", [0, 4])
def test_the_first_step_reserves_the_cache(demo_folder, monkeypatch, lookup):
    """The cancelled request counts, and a later one finds nothing of it."""
    reserved = []
    monkeypatch.setattr(
        "runtime.backends.openvino.paged.batched.reserve_cache",
        lambda *args: reserved.append(reserve_cache(*args)) or reserved[0],
    )
    engine = OpenVINO.load(demo_folder, "CPU", Options(lookup=lookup))
    metrics = engine.pipeline.get_metrics()
    assert not engine.pipeline.has_non_finished_requests()
    per_token = demo_folder.manifest.kv_bytes_per_token // 2  # u8, besides its scales
    assert metrics.kv_cache_size_in_bytes >= reserved[0] * per_token
    *_, finish = engine.generate(Request(("1 2 3",), (), SamplingParams(max_new_tokens=3)))
    assert finish.usage.completion_tokens == 3
    assert engine.pipeline.get_metrics().kv_cache_size_in_bytes == metrics.kv_cache_size_in_bytes
    engine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the list of mappings is Linux's")
def test_the_weights_file_is_not_kept_beside_the_repacked_weights(demo_folder):
    engine = OpenVINO.load(demo_folder, "CPU", Options())
    mapped = [
        place for place in psutil.Process().memory_maps(grouped=False) if place.path.endswith("openvino_model.bin")
    ]
    assert mapped
    assert sum(place.rss for place in mapped) < 0.2 * sum(place.size for place in mapped)
    engine.close()
