"""Memory stays with the process while work lasts, and goes back afterwards."""

import subprocess
import sys

import pytest

START = """
import ctypes, resource
from evertune.runtime import malloc as memory; from evertune.runtime import threads as parallel

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(48 << 20) for _ in range(3)]
    for block in blocks:
        ctypes.memset(block, 1, 48 << 20)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmRSS"))

"""
MEASURE = """
print(faults(), faults())
with memory.keep_memory():
    first = faults()
    with memory.keep_memory():
        second = faults()
    print(first, second, faults(), resident())
print(faults(), resident())
"""
GIVEN_BACK = """
def freed():
    blocks = [libc.malloc(64 << 10) for _ in range(1600)]
    for block in blocks:
        ctypes.memset(block, 1, 64 << 10)
    pins.append(libc.malloc(64 << 10))  # what is freed below it, glibc does not give back by itself
    for block in blocks:
        libc.free(block)

import pyarrow
pins = []
freed()
before = resident()
parallel.release_memory()
print(before, resident())
with memory.keep_memory():
    freed()
    before = resident()
    parallel.release_memory()
    print(before, resident())
"""


@pytest.mark.process
def test_what_was_freed_goes_back_to_the_system_unless_it_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", START + GIVEN_BACK], capture_output=True, text=True, check=True)
    (before, after), (kept, still) = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    assert after < before - 80
    assert still > kept - 20


@pytest.mark.process
def test_pages_are_paid_for_once_while_memory_is_kept_and_given_back_in_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", START + MEASURE], capture_output=True, text=True, check=True)
    before, within, after = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    pages = 3 * (48 << 20) // 4096
    assert min(before) > pages * 0.9, "the machine has larger pages than this test counts"
    assert within[0] > pages * 0.9
    assert within[1] < pages / 10 and within[2] < pages / 10, (
        "the second time is free, also after an inner use has ended"
    )
    assert within[3] > 140 and after[1] < 60, "and the memory is the system's again at the end"
    assert after[0] > pages * 0.9
