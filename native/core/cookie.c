/* Two AES-256 blocks per cookie; see cookie.h for why that is a sound MAC. */
#include "cookie.h"

#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

static int new_secret(void **out)
{
    uint8_t secret[32];
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (!context)
        return -ENOMEM;
    int error = RAND_bytes(secret, sizeof secret) == 1 &&
                        EVP_EncryptInit_ex2(context, EVP_aes_256_ecb(), secret, NULL, NULL) == 1
                    ? 0
                    : -EIO;
    OPENSSL_cleanse(secret, sizeof secret);
    if (error)
        EVP_CIPHER_CTX_free(context);
    else
        *out = context;
    return error;
}

int m13_cookie_init(struct m13_cookie *cookie, uint64_t now_ns)
{
    memset(cookie, 0, sizeof *cookie);
    cookie->rotated_ns = now_ns;
    return new_secret(&cookie->current);
}

void m13_cookie_fini(struct m13_cookie *cookie)
{
    EVP_CIPHER_CTX_free(cookie->current);
    EVP_CIPHER_CTX_free(cookie->previous);
    memset(cookie, 0, sizeof *cookie);
}

void m13_cookie_tick(struct m13_cookie *cookie, uint64_t now_ns)
{
    void *fresh = NULL;
    /* without randomness the present secret stays: weaker in time, never absent */
    if (now_ns - cookie->rotated_ns < M13_COOKIE_ROTATE_NS || new_secret(&fresh))
        return;
    EVP_CIPHER_CTX_free(cookie->previous);
    cookie->previous = cookie->current;
    cookie->current = fresh;
    cookie->rotated_ns = now_ns;
}

static void mac(void *secret, const struct m13_endpoint *source, uint8_t out[M13_COOKIE_BYTES])
{
    uint8_t block[M13_COOKIE_BYTES] = "...   M13-COOKIE"; /* the string fills the block exactly */
    int done = 0;
    memcpy(block, &source->port, sizeof source->port);
    block[2] = (uint8_t)m13_endpoint_kind(source);
    EVP_EncryptUpdate(secret, out, &done, source->address, sizeof source->address);
    for (uint32_t i = 0; i < sizeof block; i++)
        block[i] ^= out[i];
    EVP_EncryptUpdate(secret, out, &done, block, sizeof block);
}

void m13_cookie_make(struct m13_cookie *cookie, const struct m13_endpoint *source,
                     uint8_t out[M13_COOKIE_BYTES])
{
    mac(cookie->current, source, out);
}

bool m13_cookie_check(struct m13_cookie *cookie, const struct m13_endpoint *source,
                      const uint8_t given[M13_COOKIE_BYTES])
{
    uint8_t expected[M13_COOKIE_BYTES];
    mac(cookie->current, source, expected);
    if (!CRYPTO_memcmp(expected, given, sizeof expected))
        return true;
    if (!cookie->previous)
        return false;
    mac(cookie->previous, source, expected);
    return !CRYPTO_memcmp(expected, given, sizeof expected);
}
