/* The libraries' own calls for AES-256-GCM in a bare loop, as a program that uses nothing of ours
 * would write it: what a backend is held against. */
#ifndef M13_STAGES_LIBRARY_H
#define M13_STAGES_LIBRARY_H

#include "aead.h"

struct stages_library;

/* backend: "ipsec-mb" or "libcrypto"; ends the program for another one. */
struct stages_library *stages_library_open_key(const char *backend, const uint8_t *secret);
void stages_library_close(struct stages_library *library);

void stages_library_seal(struct stages_library *library, const struct m13_aead_job *jobs,
                         uint32_t count);

/* ipsec-mb computes a tag and leaves comparing to the caller, so a loop over it does not compare
 * either; it is compared here after the last frame only, to know that the work was done. */
bool stages_library_open(struct stages_library *library, const struct m13_aead_job *jobs,
                         uint32_t count);

#endif
