"""The two system-call filters of M13's processes; neither can be taken off."""

import os

from native.core cimport seccomp as c


cdef check(int error):
    if error:
        raise OSError(-error, f"seccomp: {os.strerror(-error)}")


def refuse_administration():
    """The whole process: what only an administrator does is refused with EPERM."""
    check(c.m13_seccomp_refuse_administration())


def allow_computing():
    """The whole process: all but reading, writing, waiting and ending kills it."""
    check(c.m13_seccomp_allow_computing())
