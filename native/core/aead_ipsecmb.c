/* AES-256-GCM by intel-ipsec-mb: one direct call a frame, with the CPU's best kernel. Its job and
 * burst interfaces have no lanes for GCM (1.3) and cost a frame 13 to 30 cycles more. */
#include "aead.h"

#include <errno.h>
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>
#include <string.h>

_Static_assert(sizeof(struct gcm_key_data) <= sizeof(struct m13_aead_key), "expanded key");
_Static_assert(alignof(struct gcm_key_data) <= alignof(struct m13_aead_key), "key alignment");

static struct gcm_key_data *expanded(struct m13_aead_key *key)
{
    return (struct gcm_key_data *)(void *)key->expanded;
}

static int create(void **state)
{
    IMB_MGR *manager = alloc_mb_mgr(0);
    if (!manager)
        return -ENOMEM;
    if (!(manager->features & IMB_FEATURE_AESNI)) {
        free_mb_mgr(manager);
        return -ENOTSUP;
    }
    init_mb_mgr_auto(manager, NULL);
    if (imb_get_errno(manager)) {
        free_mb_mgr(manager);
        return -ENOTSUP;
    }
    *state = manager;
    return 0;
}

static void destroy(void *state)
{
    free_mb_mgr(state);
}

static int key_init(void *state, struct m13_aead_key *key, const uint8_t *secret)
{
    IMB_MGR *manager = state;
    IMB_AES256_GCM_PRE(manager, secret, expanded(key));
    return 0;
}

static void key_fini(void *state, struct m13_aead_key *key)
{
    (void)state;
    OPENSSL_cleanse(key, sizeof *key);
}

/* In constant time like CRYPTO_memcmp(), without the call: differences are gathered, then judged.
 */
static bool is_same_tag(const uint8_t *computed, const uint8_t *received)
{
    uint64_t left[2], right[2];
    _Static_assert(sizeof left == M13_WIRE_TAG_BYTES, "a tag is two words");
    memcpy(left, computed, sizeof left);
    memcpy(right, received, sizeof right);
    return !((left[0] ^ right[0]) | (left[1] ^ right[1]));
}

static void seal(void *state, struct m13_aead_job *jobs, uint32_t count)
{
    IMB_MGR *manager = state;
    struct gcm_context_data context;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *header = (uint8_t *)jobs[i].header;
        uint8_t *text = header + M13_WIRE_SEALED_OFFSET;
        if (i + 1 < count)
            __builtin_prefetch((uint8_t *)jobs[i + 1].header + M13_WIRE_SEALED_OFFSET, 1);
        IMB_AES256_GCM_ENC(manager, expanded(jobs[i].key), &context, text, text,
                           jobs[i].bytes - M13_WIRE_SEALED_OFFSET,
                           header + offsetof(struct m13_wire_header, nonce_counter), header,
                           M13_WIRE_AAD_BYTES, header + offsetof(struct m13_wire_header, tag),
                           M13_WIRE_TAG_BYTES);
    }
}

static void open_jobs(void *state, struct m13_aead_job *jobs, uint32_t count)
{
    IMB_MGR *manager = state;
    struct gcm_context_data context;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *header = (uint8_t *)jobs[i].header;
        uint8_t *text = header + M13_WIRE_SEALED_OFFSET;
        uint8_t tag[M13_WIRE_TAG_BYTES];
        if (i + 1 < count)
            __builtin_prefetch((uint8_t *)jobs[i + 1].header + M13_WIRE_SEALED_OFFSET, 1);
        IMB_AES256_GCM_DEC(manager, expanded(jobs[i].key), &context, text, text,
                           jobs[i].bytes - M13_WIRE_SEALED_OFFSET,
                           header + offsetof(struct m13_wire_header, nonce_counter), header,
                           M13_WIRE_AAD_BYTES, tag, sizeof tag);
        jobs[i].authentic = is_same_tag(tag, jobs[i].header->tag);
    }
}

const struct m13_aead_backend m13_aead_ipsecmb = {
    .name = "ipsec-mb",
    .create = create,
    .destroy = destroy,
    .key_init = key_init,
    .key_fini = key_fini,
    .seal = seal,
    .open = open_jobs,
};
