"""Memory stays with the process while work lasts, and goes back afterwards."""

import subprocess
import sys

MEASURE = """
import ctypes, resource
from evertune import memory

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

print(faults(), faults())
with memory.kept():
    first = faults()
    with memory.kept():
        second = faults()
    print(first, second, faults(), resident())
print(faults(), resident())
"""


def test_pages_are_paid_for_once_while_memory_is_kept_and_given_back_in_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    before, within, after = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    pages = 3 * (48 << 20) // 4096
    assert min(before) > pages * 0.9, "the machine has larger pages than this test counts"
    assert within[0] > pages * 0.9
    assert within[1] < pages / 10 and within[2] < pages / 10, (
        "the second time is free, also after an inner use has ended"
    )
    assert within[3] > 140 and after[1] < 60, "and the memory is the system's again at the end"
    assert after[0] > pages * 0.9
