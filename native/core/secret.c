/* Pages for keys by mmap, wiping and HKDF by OpenSSL. */
#include "secret.h"

#include <errno.h>
#include <sys/mman.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

void *m13_secret_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* each an improvement that the machine may refuse */
    (void)madvise(memory, bytes, MADV_DONTDUMP);
    (void)madvise(memory, bytes, MADV_WIPEONFORK);
    (void)mlock2(memory, bytes, MLOCK_ONFAULT);
    return memory;
}

void m13_secret_unmap(void *memory, size_t bytes)
{
    if (!memory)
        return;
    m13_secret_wipe(memory, bytes);
    munmap(memory, bytes);
}

void m13_secret_wipe(void *memory, size_t bytes)
{
    OPENSSL_cleanse(memory, bytes);
}

/* A parameter's bytes are only read, though its type cannot say so. */
static OSSL_PARAM octets(const char *name, const uint8_t *bytes, size_t count)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)bytes, count);
}

int m13_secret_derive(const uint8_t *salt, size_t salt_bytes, const uint8_t *secret,
                      size_t secret_bytes, const uint8_t *info, size_t info_bytes, uint8_t *key,
                      size_t key_bytes)
{
    char digest[] = "SHA512";
    EVP_KDF *algorithm = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = algorithm ? EVP_KDF_CTX_new(algorithm) : NULL;
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        octets(OSSL_KDF_PARAM_SALT, salt, salt_bytes),
        octets(OSSL_KDF_PARAM_KEY, secret, secret_bytes),
        octets(OSSL_KDF_PARAM_INFO, info, info_bytes),
        OSSL_PARAM_construct_end(),
    };
    int derived = context ? EVP_KDF_derive(context, key, key_bytes, parameters) : 0;
    EVP_KDF_CTX_free(context); /* clears salt, secret and info */
    EVP_KDF_free(algorithm);
    return derived == 1 ? 0 : -EIO;
}
