# Mirror of steer.h.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "steer.h" nogil:
    int M13_STEER_ADDRESSES_MAX
    int M13_STEER_ETHERTYPE

    struct m13_steer_address:
        pass

    enum m13_steer_verdict:
        M13_STEER_VERDICT_COUNT

    enum m13_steer_mode:
        M13_STEER_AUTO
        M13_STEER_NATIVE
        M13_STEER_GENERIC

    struct m13_steer:
        pass

    int m13_steer_create(m13_steer **out, const char *object_path, uint16_t port, char *why,
                         size_t why_bytes)
    void m13_steer_destroy(m13_steer *steer)
    int m13_steer_attach(m13_steer *steer, int interface_index, m13_steer_mode mode,
                         m13_steer_mode *chosen, int *native_error)
    void m13_steer_detach(m13_steer *steer)
    int m13_steer_set_socket(m13_steer *steer, uint32_t queue, int socket_fd)
    int m13_steer_add_address(m13_steer *steer, const uint8_t *address)
    int m13_steer_remove_address(m13_steer *steer, const uint8_t *address)
    int m13_steer_counters(const m13_steer *steer, uint64_t *out)
    const char *m13_steer_verdict_name(m13_steer_verdict verdict)
    const char *m13_steer_verdict_text(m13_steer_verdict verdict)
    int m13_steer_test(m13_steer *steer, const void *frame, uint32_t bytes, uint32_t *action)

cdef extern from "<linux/bpf.h>" nogil:
    int XDP_PASS
    int XDP_REDIRECT
