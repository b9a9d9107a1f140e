"""How long the host lets a guest's CPU run before another one has its turn.

A guest whose CPUs wait for each other (for the answer to an interrupt, say) spins while the one that should answer
waits for a CPU of the host: for milliseconds, if something else runs there. With short turns it comes sooner. Where
guests share two CPUs of the host, tests that hand over between CPUs take a third less time.
"""

import ctypes
import os
import platform
import struct

SYSCALL = {"x86_64": 314, "aarch64": 274}  # sched_setattr
SHORTEST_NS = 100_000


def be_short():
    """This process and those that it starts from now on. Linux before 6.12 has turns of one length, and others have no
    such call: nothing changes there."""
    number = SYSCALL.get(platform.machine())
    if number is None:
        return
    # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, two limits of utilisation
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # as it is
    attributes = struct.pack("=IIQiIQQQII", 56, 0, 0, nice, 0, SHORTEST_NS, 0, 0, 0, 0)
    try:
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)
    except (OSError, AttributeError):
        pass
