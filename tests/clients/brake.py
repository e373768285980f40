"""Slows one thread of a running child process and nothing else of it: the thread is stopped (ptrace) and let go for a moment
every second. A computation then lasts as long as a test wants, on every machine and whatever else runs on it, while the
process's other threads go on as always."""
import ctypes
import errno
import os
import threading
import time

SEIZE, INTERRUPT, CONT, DETACH = 0x4206, 0x4207, 7, 17
WALL = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request, thread, data=0):
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, thread, None, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace({request:#x}): {os.strerror(code)}")


def ticks(pid):
    """Processor time of every thread."""
    out = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        out[int(thread)] = int(fields[11]) + int(fields[12])
    return out


def busiest_thread(pid, seconds=1.0):
    before = ticks(pid)
    time.sleep(seconds)
    after = ticks(pid)
    return max(after, key=lambda thread: after[thread] - before.get(thread, 0))


class Brake:
    """Holds a thread of a child process back until `seconds` are over, then lets it run."""

    def __init__(self, thread, seconds, run_s=0.005, stop_s=1.0):
        self.thread, self.until, self.run_s, self.stop_s = thread, time.monotonic() + seconds, run_s, stop_s
        self.error, self.rounds, self.released = None, 0, threading.Event()
        self.worker = threading.Thread(target=self.work, daemon=True)
        self.worker.start()

    def stopped(self):
        """Waits for the stop that was asked for; signals that come first are handed on."""
        while True:
            _, status = os.waitpid(self.thread, WALL)
            if not os.WIFSTOPPED(status):
                raise OSError(errno.ESRCH, "the thread has ended")
            if status >> 16:  # PTRACE_EVENT_STOP
                return
            ptrace(CONT, self.thread, os.WSTOPSIG(status))

    def work(self):  # ptrace wants the same thread for all of it
        try:
            ptrace(SEIZE, self.thread)
            while not self.released.is_set() and time.monotonic() < self.until:
                ptrace(INTERRUPT, self.thread)
                self.stopped()
                self.released.wait(min(self.stop_s, max(0, self.until - time.monotonic())))
                ptrace(CONT, self.thread)
                time.sleep(self.run_s)
                self.rounds += 1
            ptrace(INTERRUPT, self.thread)
            self.stopped()
            ptrace(DETACH, self.thread)
        except OSError as error:
            self.error = error

    def release(self):
        self.released.set()
        self.worker.join(30)
