"""The table from IPv4 and IPv6 prefixes to slots; longest match."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset
from native.core cimport prefix as c

NONE = c.M13_PREFIX_NONE


cdef c.m13_prefix fill(const unsigned char[::1] address, int bits) except *:
    """A prefix by its address, of 4 or 16 bytes, and length; ValueError when it is none."""
    cdef c.m13_prefix prefix
    memset(&prefix, 0, sizeof(prefix))
    if address.shape[0] not in (4, 16) or not 0 <= bits <= 128:
        raise ValueError("an address is 4 or 16 bytes")
    prefix.family = c.M13_IPV4 if address.shape[0] == 4 else c.M13_IPV6
    prefix.bits = <uint8_t>bits
    memcpy(prefix.address, &address[0], address.shape[0])
    if not c.m13_prefix_is_valid(&prefix):
        raise ValueError("not a prefix: too long, or bits are set behind it")
    return prefix


cdef class PrefixTable:
    """Room for a number of prefixes; slots are below NONE."""
    cdef c.m13_prefix_table table

    def __cinit__(self, uint32_t prefixes):
        if not 1 <= prefixes <= 1 << 20:
            raise ValueError("1 to 2^20 prefixes")
        if c.m13_prefix_table_init(&self.table, prefixes):
            raise MemoryError

    def __dealloc__(self):
        c.m13_prefix_table_fini(&self.table)

    def find(self, const unsigned char[::1] address not None):
        """Slot of the longest prefix around the address, 4 or 16 bytes; NONE when there is none."""
        cdef uint32_t word
        if address.shape[0] == 16:
            return c.m13_prefix_find6(&self.table, &address[0])
        if address.shape[0] != 4:
            raise ValueError("an address is 4 or 16 bytes")
        memcpy(&word, &address[0], sizeof(word))
        return c.m13_prefix_find4(&self.table, word)

    def holder(self, address, int bits):
        """Slot of exactly this prefix."""
        cdef c.m13_prefix prefix = fill(address, bits)
        return c.m13_prefix_holder(&self.table, &prefix)

    def set(self, address, int bits, uint16_t slot):
        """False when the table is full."""
        cdef c.m13_prefix prefix = fill(address, bits)
        if slot == c.M13_PREFIX_NONE:
            raise ValueError("this slot means that there is none")
        return c.m13_prefix_set(&self.table, &prefix, slot)

    def remove(self, address, int bits, uint16_t slot):
        cdef c.m13_prefix prefix = fill(address, bits)
        c.m13_prefix_remove(&self.table, &prefix, slot)

    def __len__(self):
        return self.table.count
