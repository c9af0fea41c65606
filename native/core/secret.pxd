# Mirror of secret.h.
from libc.stdint cimport uint8_t


cdef extern from "secret.h" nogil:
    void *m13_secret_map(size_t bytes)
    void m13_secret_unmap(void *memory, size_t bytes)
    void m13_secret_wipe(void *memory, size_t bytes)
    int m13_secret_derive(const uint8_t *salt, size_t salt_bytes, const uint8_t *secret,
                          size_t secret_bytes, const uint8_t *info, size_t info_bytes,
                          uint8_t *key, size_t key_bytes)
