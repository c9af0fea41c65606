/* Raw calls: ipsec-mb's direct API, OpenSSL's EVP with a keyed context that only gets nonces. */
#include "stages_library.h"

#include <openssl/evp.h>
#include <stdlib.h>
#ifdef M13_WITH_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

#include "check/stages.h"

struct stages_library {
    EVP_CIPHER_CTX *seal, *open; /* libcrypto; else NULL */
#ifdef M13_WITH_IPSEC_MB
    IMB_MGR *manager;                    /* ipsec-mb */
    alignas(64) struct gcm_key_data key; /* its header asks nobody for it, its code does */
#endif
};

struct stages_library *stages_library_open_key(const char *backend, const uint8_t *secret)
{
    struct stages_library *library = stages_memory(sizeof *library);
#ifdef M13_WITH_IPSEC_MB
    if (!strcmp(backend, "ipsec-mb")) {
        library->manager = alloc_mb_mgr(0);
        stages_require(library->manager, "no memory");
        init_mb_mgr_auto(library->manager, NULL);
        IMB_AES256_GCM_PRE(library->manager, secret, &library->key);
        return library;
    }
#endif
    stages_require(!strcmp(backend, "libcrypto"), "no such library");
    library->seal = EVP_CIPHER_CTX_new();
    library->open = EVP_CIPHER_CTX_new();
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    stages_require(library->seal && library->open && cipher, "no AES-256-GCM");
    stages_require(EVP_EncryptInit_ex(library->seal, cipher, NULL, secret, NULL) &&
                       EVP_DecryptInit_ex(library->open, cipher, NULL, secret, NULL),
                   "no key");
    EVP_CIPHER_free(cipher);
    return library;
}

void stages_library_close(struct stages_library *library)
{
    EVP_CIPHER_CTX_free(library->seal);
    EVP_CIPHER_CTX_free(library->open);
#ifdef M13_WITH_IPSEC_MB
    if (library->manager)
        free_mb_mgr(library->manager);
#endif
    free(library);
}

/* --- ipsec-mb ------------------------------------------------------------------------------- */

#ifdef M13_WITH_IPSEC_MB
static void seal_ipsec_mb(struct stages_library *library, const struct m13_aead_job *jobs,
                          uint32_t count)
{
    struct gcm_context_data context;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *header = (uint8_t *)jobs[i].header;
        uint8_t *text = header + M13_WIRE_SEALED_OFFSET;
        IMB_AES256_GCM_ENC(library->manager, &library->key, &context, text, text,
                           jobs[i].bytes - M13_WIRE_SEALED_OFFSET,
                           (uint8_t *)&jobs[i].header->nonce_counter, header, M13_WIRE_AAD_BYTES,
                           jobs[i].header->tag, M13_WIRE_TAG_BYTES);
    }
}

static bool open_ipsec_mb(struct stages_library *library, const struct m13_aead_job *jobs,
                          uint32_t count)
{
    struct gcm_context_data context;
    uint8_t tag[M13_WIRE_TAG_BYTES] = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *header = (uint8_t *)jobs[i].header;
        uint8_t *text = header + M13_WIRE_SEALED_OFFSET;
        IMB_AES256_GCM_DEC(library->manager, &library->key, &context, text, text,
                           jobs[i].bytes - M13_WIRE_SEALED_OFFSET,
                           (uint8_t *)&jobs[i].header->nonce_counter, header, M13_WIRE_AAD_BYTES,
                           tag, sizeof tag);
    }
    return !memcmp(tag, jobs[count - 1].header->tag, sizeof tag);
}
#endif

/* --- libcrypto ------------------------------------------------------------------------------ */

static void seal_libcrypto(EVP_CIPHER_CTX *context, const struct m13_aead_job *jobs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct m13_wire_header *header = jobs[i].header;
        uint8_t *text = (uint8_t *)header + M13_WIRE_SEALED_OFFSET;
        int done = 0;
        EVP_EncryptInit_ex(context, NULL, NULL, NULL, (uint8_t *)&header->nonce_counter);
        EVP_EncryptUpdate(context, NULL, &done, (uint8_t *)header, M13_WIRE_AAD_BYTES);
        EVP_EncryptUpdate(context, text, &done, text,
                          (int)(jobs[i].bytes - M13_WIRE_SEALED_OFFSET));
        EVP_EncryptFinal_ex(context, text + done, &done);
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, M13_WIRE_TAG_BYTES, header->tag);
    }
}

static bool open_libcrypto(EVP_CIPHER_CTX *context, const struct m13_aead_job *jobs, uint32_t count)
{
    int done = 0, opened = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct m13_wire_header *header = jobs[i].header;
        uint8_t *text = (uint8_t *)header + M13_WIRE_SEALED_OFFSET;
        EVP_DecryptInit_ex(context, NULL, NULL, NULL, (uint8_t *)&header->nonce_counter);
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, M13_WIRE_TAG_BYTES, header->tag);
        EVP_DecryptUpdate(context, NULL, &done, (uint8_t *)header, M13_WIRE_AAD_BYTES);
        EVP_DecryptUpdate(context, text, &done, text,
                          (int)(jobs[i].bytes - M13_WIRE_SEALED_OFFSET));
        opened += EVP_DecryptFinal_ex(context, text + done, &done) > 0;
    }
    return opened == (int)count;
}

/* -------------------------------------------------------------------------------------------- */

void stages_library_seal(struct stages_library *library, const struct m13_aead_job *jobs,
                         uint32_t count)
{
#ifdef M13_WITH_IPSEC_MB
    if (library->manager) {
        seal_ipsec_mb(library, jobs, count);
        return;
    }
#endif
    seal_libcrypto(library->seal, jobs, count);
}

bool stages_library_open(struct stages_library *library, const struct m13_aead_job *jobs,
                         uint32_t count)
{
#ifdef M13_WITH_IPSEC_MB
    if (library->manager)
        return open_ipsec_mb(library, jobs, count);
#endif
    return open_libcrypto(library->open, jobs, count);
}
