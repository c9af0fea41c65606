/*
 * Loads the steering program and hangs it on an interface.
 *
 * The program is attached by a BPF link whose only reference is a descriptor of this process: it
 * goes when the process goes, SIGKILL included. Not thread safe; counters may be read at any time.
 */
#ifndef M13_STEER_H
#define M13_STEER_H

#include <stddef.h>
#include <stdint.h>
#include "../../bpf/steer.h"

struct m13_steer;

enum m13_steer_mode {
    M13_STEER_AUTO, /* native where the driver can, else generic */
    M13_STEER_NATIVE,
    M13_STEER_GENERIC,
};

/*
 * Opens, configures and loads the object; it can be tested (m13_steer_test) without attaching.
 * On failure -errno, and `why` holds what failed, with the verifier's last line if it was asked.
 */
int m13_steer_create(struct m13_steer **out, const char *object_path, uint16_t port, char *why,
                     size_t why_bytes);
/* Detaches and frees; NULL is fine. */
void m13_steer_destroy(struct m13_steer *steer);

/*
 * `*chosen` is NATIVE or GENERIC; `*native_error` says why native was not had (0, or -errno).
 * -EBUSY: the interface already has an XDP program, which we never replace.
 */
int m13_steer_attach(struct m13_steer *steer, int interface_index, enum m13_steer_mode mode,
                     enum m13_steer_mode *chosen, int *native_error);
void m13_steer_detach(struct m13_steer *steer);

/* Frames of this queue go to this XDP socket from now on; -errno. */
int m13_steer_set_socket(struct m13_steer *steer, uint32_t queue, int socket_fd);

/* 16 bytes, IPv4 mapped. Adding one twice and removing an absent one are fine; -E2BIG: full. */
int m13_steer_add_address(struct m13_steer *steer, const uint8_t address[16]);
int m13_steer_remove_address(struct m13_steer *steer, const uint8_t address[16]);

/* Sums over all processors, indexed by enum m13_steer_verdict. */
int m13_steer_counters(const struct m13_steer *steer, uint64_t out[M13_STEER_VERDICT_COUNT]);
const char *m13_steer_verdict_name(enum m13_steer_verdict verdict);
const char *m13_steer_verdict_text(enum m13_steer_verdict verdict);

/* Runs one frame (14 bytes or more) through the program; `*action` is XDP_PASS or XDP_REDIRECT. */
int m13_steer_test(struct m13_steer *steer, const void *frame, uint32_t bytes, uint32_t *action);

#endif
