/* An AEAD that does nothing: every frame leaves in the clear and is believed when it arrives.
 *
 * It exists to measure what a datapath costs without encryption, and takes the place of
 * native/core/aead.c in the copy of the tree that bench.stages builds in build/clear; no file of
 * native/ and no switch of setup.py knows of it. A build has this or encryption, never both: a
 * clear end and an ordinary one do not understand each other. */
#ifndef M13_BENCH_CLEAR
#error "the clear AEAD is for bench.stages only: an M13 built with it does not encrypt"
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aead.h"

#define CONSENT "M13_BENCH_CLEAR_TRAFFIC"

static int create(void **state)
{
    const char *consent = getenv(CONSENT);
    *state = NULL;
    if (!consent || strcmp(consent, "yes") != 0) {
        fputs("m13: REFUSED: this build DOES NOT ENCRYPT; it is for bench.stages only."
              " Build M13 anew with 'make'.\n",
              stderr);
        return -EPERM;
    }
    fputs("m13: WARNING: NOTHING IS ENCRYPTED, nothing is authenticated: bench build\n", stderr);
    return 0;
}

static void destroy(void *state)
{
    (void)state;
}

static int key_init(void *state, struct m13_aead_key *key, const uint8_t *secret)
{
    (void)state;
    (void)secret; /* not kept: there is nothing here that needs it */
    memset(key, 0, sizeof *key);
    return 0;
}

static void key_fini(void *state, struct m13_aead_key *key)
{
    (void)state;
    memset(key, 0, sizeof *key);
}

/* The tag is written, as a real one is: its cache line belongs to the datapath. */
static void seal(void *state, struct m13_aead_job *jobs, uint32_t count)
{
    (void)state;
    for (uint32_t i = 0; i < count; i++)
        memset(jobs[i].header->tag, 0, sizeof jobs[i].header->tag);
}

static void open_jobs(void *state, struct m13_aead_job *jobs, uint32_t count)
{
    (void)state;
    for (uint32_t i = 0; i < count; i++)
        jobs[i].authentic = true;
}

static const struct m13_aead_backend clear = {
    .name = "none: CLEAR",
    .create = create,
    .destroy = destroy,
    .key_init = key_init,
    .key_fini = key_fini,
    .seal = seal,
    .open = open_jobs,
};

const struct m13_aead_backend *const m13_aead_backends[] = {&clear, NULL};

int m13_aead_create(struct m13_aead *aead, const char *name)
{
    if (strcmp(name, "auto") != 0 && strcmp(name, clear.name) != 0)
        return -ENOENT;
    int error = clear.create(&aead->state);
    if (!error)
        aead->backend = &clear;
    return error;
}

void m13_aead_destroy(struct m13_aead *aead)
{
    aead->backend = NULL;
}
