/* AES-256-GCM by OpenSSL's EVP: contexts are keyed once, a frame only sets its nonce. */
#include "aead.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

struct libcrypto_key {
    EVP_CIPHER_CTX *seal;
    EVP_CIPHER_CTX *open;
};

_Static_assert(sizeof(struct libcrypto_key) <= sizeof(struct m13_aead_key), "expanded key");

static struct libcrypto_key *expanded(struct m13_aead_key *key)
{
    return (struct libcrypto_key *)(void *)key->expanded;
}

/* Where a context puts or finds a tag. EVP_CIPHER_CTX_ctrl() would build the same from its own
 * arguments, and cost a small frame a twelfth more. */
static void name_tag(OSSL_PARAM parameters[2], uint8_t *tag)
{
    parameters[0] =
        OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, M13_WIRE_TAG_BYTES);
    parameters[1] = OSSL_PARAM_construct_end();
}

static int create(void **state)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    *state = cipher;
    return cipher ? 0 : -ENOTSUP;
}

static void destroy(void *state)
{
    EVP_CIPHER_free(state);
}

static void key_fini(void *state, struct m13_aead_key *key)
{
    (void)state;
    EVP_CIPHER_CTX_free(expanded(key)->seal); /* cleanses the key schedule; NULL is fine */
    EVP_CIPHER_CTX_free(expanded(key)->open);
    OPENSSL_cleanse(key, sizeof *key);
}

static int key_init(void *state, struct m13_aead_key *key, const uint8_t *secret)
{
    struct libcrypto_key *contexts = expanded(key);
    contexts->seal = EVP_CIPHER_CTX_new();
    contexts->open = EVP_CIPHER_CTX_new();
    if (!contexts->seal || !contexts->open ||
        !EVP_EncryptInit_ex2(contexts->seal, state, secret, NULL, NULL) ||
        !EVP_DecryptInit_ex2(contexts->open, state, secret, NULL, NULL)) {
        key_fini(state, key);
        return -ENOMEM;
    }
    return 0;
}

static void seal(void *state, struct m13_aead_job *jobs, uint32_t count)
{
    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        EVP_CIPHER_CTX *context = expanded(jobs[i].key)->seal;
        struct m13_wire_header *header = jobs[i].header;
        uint8_t *text = (uint8_t *)header + M13_WIRE_SEALED_OFFSET;
        OSSL_PARAM tag[2];
        int done = 0;
        name_tag(tag, header->tag);
        EVP_EncryptInit_ex2(context, NULL, NULL, (uint8_t *)&header->nonce_counter, NULL);
        EVP_EncryptUpdate(context, NULL, &done, (uint8_t *)header, M13_WIRE_AAD_BYTES);
        EVP_EncryptUpdate(context, text, &done, text,
                          (int)(jobs[i].bytes - M13_WIRE_SEALED_OFFSET));
        EVP_EncryptFinal_ex(context, text + done, &done);
        EVP_CIPHER_CTX_get_params(context, tag);
    }
}

static void open_jobs(void *state, struct m13_aead_job *jobs, uint32_t count)
{
    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        EVP_CIPHER_CTX *context = expanded(jobs[i].key)->open;
        struct m13_wire_header *header = jobs[i].header;
        uint8_t *text = (uint8_t *)header + M13_WIRE_SEALED_OFFSET;
        OSSL_PARAM tag[2];
        int done = 0;
        name_tag(tag, header->tag);
        EVP_DecryptInit_ex2(context, NULL, NULL, (uint8_t *)&header->nonce_counter, tag);
        EVP_DecryptUpdate(context, NULL, &done, (uint8_t *)header, M13_WIRE_AAD_BYTES);
        EVP_DecryptUpdate(context, text, &done, text,
                          (int)(jobs[i].bytes - M13_WIRE_SEALED_OFFSET));
        jobs[i].authentic = EVP_DecryptFinal_ex(context, text + done, &done) > 0;
    }
}

const struct m13_aead_backend m13_aead_libcrypto = {
    .name = "libcrypto",
    .create = create,
    .destroy = destroy,
    .key_init = key_init,
    .key_fini = key_fini,
    .seal = seal,
    .open = open_jobs,
};
