/* Installing and wiping the keys of a session. */
#include "session.h"

#include <string.h>

int m13_session_init(struct m13_session *session, struct m13_aead *aead, uint8_t version,
                     uint8_t key_phase, const uint8_t *send_secret, const uint8_t *receive_secret,
                     uint64_t now_ns)
{
    memset(session, 0, sizeof *session);
    int error = m13_aead_key_init(aead, &session->send_key, send_secret);
    if (error)
        return error;
    error = m13_aead_key_init(aead, &session->receive_key, receive_secret);
    if (error) {
        m13_aead_key_fini(aead, &session->send_key);
        return error;
    }
    m13_replay_init(&session->replay);
    session->version = version;
    session->key_phase = key_phase;
    session->established_ns = now_ns;
    session->valid = true;
    return 0;
}

void m13_session_fini(struct m13_session *session, struct m13_aead *aead)
{
    if (!session->valid)
        return;
    session->valid = false;
    m13_aead_key_fini(aead, &session->send_key);
    m13_aead_key_fini(aead, &session->receive_key);
}
