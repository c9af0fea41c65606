/* Memory for keys, their wiping, and the derivation that leaves nothing behind. */
#ifndef M13_SECRET_H
#define M13_SECRET_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed pages that are in no core dump, empty in a forked child, and not swapped as far as
 * RLIMIT_MEMLOCK allows. NULL: no memory. */
void *m13_secret_map(size_t bytes);

/* Wipes and takes what m13_secret_map gave, with the same size. NULL is fine. */
void m13_secret_unmap(void *memory, size_t bytes);

/* Wipes; no compiler leaves it out. */
void m13_secret_wipe(void *memory, size_t bytes);

/* HKDF-SHA-512 (RFC 5869) by OpenSSL, which wipes what it computes on the way. 0, or -EIO. */
int m13_secret_derive(const uint8_t *salt, size_t salt_bytes, const uint8_t *secret,
                      size_t secret_bytes, const uint8_t *info, size_t info_bytes, uint8_t *key,
                      size_t key_bytes);

#endif
