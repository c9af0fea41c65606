# Mirror of prefix.h.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "prefix.h" nogil:
    enum:
        M13_PREFIX_NONE

    enum m13_family:
        M13_IPV4
        M13_IPV6

    struct m13_prefix:
        uint8_t family
        uint8_t bits
        uint8_t address[16]

    struct m13_prefix_table:
        uint32_t count

    int m13_prefix_table_init(m13_prefix_table *table, uint32_t prefixes)
    void m13_prefix_table_fini(m13_prefix_table *table)
    bool m13_prefix_is_valid(const m13_prefix *prefix)
    uint16_t m13_prefix_find4(const m13_prefix_table *table, uint32_t address)
    uint16_t m13_prefix_find6(const m13_prefix_table *table, const uint8_t *address)
    uint16_t m13_prefix_holder(const m13_prefix_table *table, const m13_prefix *prefix)
    bool m13_prefix_set(m13_prefix_table *table, const m13_prefix *prefix, uint16_t slot)
    void m13_prefix_remove(m13_prefix_table *table, const m13_prefix *prefix, uint16_t slot)
