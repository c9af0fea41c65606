# Mirror of cookie.h.
from libc.stdint cimport uint8_t, uint64_t
from native.core.endpoint cimport m13_endpoint

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "cookie.h" nogil:
    enum:
        M13_COOKIE_BYTES

    const uint64_t M13_COOKIE_ROTATE_NS

    struct m13_cookie:
        pass

    int m13_cookie_init(m13_cookie *cookie, uint64_t now_ns)
    void m13_cookie_fini(m13_cookie *cookie)
    void m13_cookie_tick(m13_cookie *cookie, uint64_t now_ns)
    void m13_cookie_make(m13_cookie *cookie, const m13_endpoint *source, uint8_t *out)
    bool m13_cookie_check(m13_cookie *cookie, const m13_endpoint *source, const uint8_t *mac)
