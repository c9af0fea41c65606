/* Choosing an AEAD backend: the first built-in one that works on this CPU. */
#include "aead.h"

#include <errno.h>
#include <string.h>

const struct m13_aead_backend *const m13_aead_backends[] = {
#ifdef M13_WITH_IPSEC_MB
    &m13_aead_ipsecmb,
#endif
    &m13_aead_libcrypto,
    NULL,
};

int m13_aead_create(struct m13_aead *aead, const char *name)
{
    int error = -ENOENT;
    bool any = !strcmp(name, "auto");
    for (uint32_t i = 0; m13_aead_backends[i]; i++) {
        const struct m13_aead_backend *backend = m13_aead_backends[i];
        if (!any && strcmp(name, backend->name) != 0)
            continue;
        error = backend->create(&aead->state);
        if (!error) {
            aead->backend = backend;
            return 0;
        }
    }
    return error;
}

void m13_aead_destroy(struct m13_aead *aead)
{
    if (aead->backend)
        aead->backend->destroy(aead->state);
    aead->backend = NULL;
}
