/* Brings an AF_XDP socket up: zero-copy where the driver binds it, else copy. */
#include "xdp.h"

#include <stdlib.h>
#include <time.h>
#include <linux/if_xdp.h>

/* Linux 6.17; older kernels send at most 32 packets a call in copy mode, and say so by refusing. */
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif
#define TRANSMIT_BUDGET_DEFAULT 32

/* The kernel frees the queue of a socket that just closed (a restart) from a work queue. */
#define BUSY_RETRIES        20
#define BUSY_RETRY_DELAY_NS 10000000L

static bool is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static bool is_valid(const struct m13_xdp_config *config)
{
    return config->interface && config->umem &&
           (config->frame_bytes == 2048 || config->frame_bytes == 4096) &&
           config->umem_bytes != 0 && config->umem_bytes % config->frame_bytes == 0 &&
           config->first_byte % config->frame_bytes == 0 &&
           config->first_byte < config->umem_bytes && is_power_of_two(config->fill_slots) &&
           is_power_of_two(config->completion_slots) && is_power_of_two(config->receive_slots) &&
           is_power_of_two(config->transmit_slots);
}

static void close_socket(struct m13_xdp *xdp)
{
    if (xdp->socket)
        xsk_socket__delete(xdp->socket);
    if (xdp->umem && xdp->owns_umem)
        xsk_umem__delete(xdp->umem);
    xdp->socket = NULL;
    xdp->umem = NULL;
}

/* libxdp leaves a packet memory unusable after a failed bind, so every attempt makes its own. */
static int bind_socket(struct m13_xdp *xdp, const struct m13_xdp_config *config, uint16_t copy_flag)
{
    const struct xsk_umem_config umem = {
        .fill_size = config->fill_slots,
        .comp_size = config->completion_slots,
        .frame_size = config->frame_bytes,
    };
    const struct xsk_socket_config socket = {
        .rx_size = config->receive_slots,
        .tx_size = config->transmit_slots,
        .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
        .bind_flags = copy_flag | XDP_USE_NEED_WAKEUP,
    };
    int error = 0;

    xdp->owns_umem = !config->sharing;
    if (config->sharing)
        xdp->umem = config->sharing->umem;
    else
        error = xsk_umem__create(&xdp->umem, config->umem, config->umem_bytes, &xdp->fill,
                                 &xdp->completion, &umem);
    if (!error && config->sharing)
        error = xsk_socket__create_shared(&xdp->socket, config->interface, config->queue, xdp->umem,
                                          &xdp->receive, &xdp->transmit, &xdp->fill,
                                          &xdp->completion, &socket);
    else if (!error)
        error = xsk_socket__create(&xdp->socket, config->interface, config->queue, xdp->umem,
                                   &xdp->receive, &xdp->transmit, &socket);
    if (error)
        close_socket(xdp);
    return error;
}

static int bind_patiently(struct m13_xdp *xdp, const struct m13_xdp_config *config,
                          uint16_t copy_flag)
{
    const struct timespec delay = {.tv_nsec = BUSY_RETRY_DELAY_NS};
    int error = bind_socket(xdp, config, copy_flag);

    for (int i = 0; i < BUSY_RETRIES && error == -EBUSY; i++) {
        nanosleep(&delay, NULL);
        error = bind_socket(xdp, config, copy_flag);
    }
    return error;
}

static int bind_best(struct m13_xdp *xdp, const struct m13_xdp_config *config)
{
    if (config->sharing) { /* how the umem was bound first holds for all its sockets */
        xdp->zero_copy = config->sharing->zero_copy;
        xdp->zero_copy_error = config->sharing->zero_copy_error;
        return bind_patiently(xdp, config, 0);
    }
    if (config->try_zero_copy && !config->generic) {
        xdp->zero_copy_error = bind_patiently(xdp, config, XDP_ZEROCOPY);
        xdp->zero_copy = xdp->zero_copy_error == 0;
        if (xdp->zero_copy || xdp->zero_copy_error == -EBUSY)
            return xdp->zero_copy_error;
    }
    return bind_patiently(xdp, config, XDP_COPY);
}

/* One system call for the whole ring, where the kernel can. */
static void raise_transmit_budget(struct m13_xdp *xdp, uint32_t slots)
{
    int budget = (int)slots;

    xdp->transmit_budget = TRANSMIT_BUDGET_DEFAULT;
    if (setsockopt(xdp->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget)) == 0)
        xdp->transmit_budget = slots;
}

int m13_xdp_create(struct m13_xdp **out, const struct m13_xdp_config *config)
{
    struct m13_xdp *xdp;
    int error;

    *out = NULL;
    if (!is_valid(config))
        return -EINVAL;
    xdp = calloc(1, sizeof(*xdp));
    if (!xdp)
        return -ENOMEM;
    xdp->frame_shift = (uint32_t)__builtin_ctz(config->frame_bytes);
    xdp->first_byte = config->first_byte;
    error = bind_best(xdp, config);
    if (error) {
        free(xdp);
        return error;
    }
    xdp->fd = xsk_socket__fd(xdp->socket);
    raise_transmit_budget(xdp, config->transmit_slots);
    *out = xdp;
    return 0;
}

void m13_xdp_destroy(struct m13_xdp *xdp)
{
    if (!xdp)
        return;
    close_socket(xdp);
    free(xdp);
}

int m13_xdp_statistics(const struct m13_xdp *xdp, struct m13_xdp_statistics *out)
{
    struct xdp_statistics kernel = {0};
    socklen_t bytes = sizeof(kernel);

    if (getsockopt(xdp->fd, SOL_XDP, XDP_STATISTICS, &kernel, &bytes))
        return -errno;
    *out = (struct m13_xdp_statistics){
        .receive_dropped = kernel.rx_dropped,
        .receive_ring_full = kernel.rx_ring_full,
        .fill_ring_empty = kernel.rx_fill_ring_empty_descs,
        .receive_invalid = kernel.rx_invalid_descs,
        .transmit_invalid = kernel.tx_invalid_descs,
        .transmit_ring_empty = kernel.tx_ring_empty_descs,
    };
    return 0;
}
