# Mirror of seccomp.h.
cdef extern from "seccomp.h" nogil:
    int m13_seccomp_refuse_administration()
    int m13_seccomp_allow_computing()
