/* Loads the steering program, attaches it by a BPF link and keeps its maps. */
#include "steer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>

struct m13_steer {
    struct bpf_object *object;
    int program_fd;
    int addresses_fd;
    int sockets_fd;
    int counters_fd;
    int link_fd; /* -1: not attached */
    int processors;
    uint64_t *per_processor; /* one counter of each possible processor */
    char verifier_log[16384];
};

/* libbpf gives its messages no context to land in: what we report is the verifier's own log. */
static int print_nothing(enum libbpf_print_level level, const char *format, va_list arguments)
{
    (void)level;
    (void)format;
    (void)arguments;
    return 0;
}

/* The verifier ends with statistics ("processed N insns"); the line before says what is wrong. */
static const char *last_line(char *log)
{
    char *statistics = strstr(log, "\nprocessed ");
    char *line;

    if (statistics)
        *statistics = '\0';
    line = strrchr(log, '\n');
    return line ? line + 1 : log;
}

static int fail(struct m13_steer *steer, int error, const char *step, char *why, size_t why_bytes)
{
    const char *line = last_line(steer->verifier_log);

    snprintf(why, why_bytes, "%s: %s%s%s", step, strerror(-error), *line ? ": " : "", line);
    return error;
}

static int configure(struct m13_steer *steer, uint16_t port)
{
    const struct m13_steer_settings settings = {.port = htons(port)};
    struct bpf_map *rodata = bpf_object__find_map_by_name(steer->object, ".rodata");

    if (!rodata)
        return -ENOENT;
    return bpf_map__set_initial_value(rodata, &settings, sizeof(settings));
}

static int find_descriptors(struct m13_steer *steer)
{
    struct bpf_program *program =
        bpf_object__find_program_by_name(steer->object, M13_STEER_PROGRAM);

    steer->program_fd = program ? bpf_program__fd(program) : -1;
    steer->addresses_fd = bpf_object__find_map_fd_by_name(steer->object, M13_STEER_ADDRESSES);
    steer->sockets_fd = bpf_object__find_map_fd_by_name(steer->object, M13_STEER_SOCKETS);
    steer->counters_fd = bpf_object__find_map_fd_by_name(steer->object, M13_STEER_COUNTERS);
    if (steer->program_fd < 0 || steer->addresses_fd < 0 || steer->sockets_fd < 0 ||
        steer->counters_fd < 0)
        return -ENOENT;
    return 0;
}

static int load(struct m13_steer *steer, const char *path, uint16_t port, char *why, size_t bytes)
{
    LIBBPF_OPTS(bpf_object_open_opts, options, .kernel_log_buf = steer->verifier_log,
                .kernel_log_size = sizeof(steer->verifier_log), .kernel_log_level = 0);
    int error;

    steer->object = bpf_object__open_file(path, &options);
    if (!steer->object)
        return fail(steer, -errno, path, why, bytes);
    error = configure(steer, port);
    if (error)
        return fail(steer, error, "settings of the steering object", why, bytes);
    error = bpf_object__load(steer->object);
    if (error)
        return fail(steer, error, "the kernel refused the steering program", why, bytes);
    error = find_descriptors(steer);
    if (error)
        return fail(steer, error, "maps of the steering object", why, bytes);
    return 0;
}

int m13_steer_create(struct m13_steer **out, const char *object_path, uint16_t port, char *why,
                     size_t why_bytes)
{
    struct m13_steer *steer = calloc(1, sizeof(*steer));
    int error;

    *out = NULL;
    snprintf(why, why_bytes, "steering program");
    if (!steer)
        return -ENOMEM;
    steer->link_fd = -1;
    steer->processors = libbpf_num_possible_cpus();
    steer->per_processor = calloc((size_t)steer->processors, sizeof(uint64_t));
    libbpf_set_print(print_nothing);
    error = steer->per_processor ? load(steer, object_path, port, why, why_bytes) : -ENOMEM;
    if (error) {
        m13_steer_destroy(steer);
        return error;
    }
    *out = steer;
    return 0;
}

void m13_steer_destroy(struct m13_steer *steer)
{
    if (!steer)
        return;
    m13_steer_detach(steer);
    bpf_object__close(steer->object);
    free(steer->per_processor);
    free(steer);
}

/* Kernels differ in which modes they let live side by side: any program at all is one too many. */
static int refuse_occupied(int interface_index)
{
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    int error = bpf_xdp_query(interface_index, 0, &query);

    if (error)
        return error;
    return query.attach_mode == XDP_ATTACHED_NONE ? 0 : -EBUSY;
}

static int attach_as(struct m13_steer *steer, int interface_index, uint32_t flags)
{
    LIBBPF_OPTS(bpf_link_create_opts, options, .flags = flags);
    int fd = bpf_link_create(steer->program_fd, interface_index, BPF_XDP, &options);

    if (fd == -EEXIST)
        return -EBUSY;
    if (fd < 0)
        return fd;
    steer->link_fd = fd;
    return 0;
}

int m13_steer_attach(struct m13_steer *steer, int interface_index, enum m13_steer_mode mode,
                     enum m13_steer_mode *chosen, int *native_error)
{
    int error;

    *native_error = 0;
    if (steer->link_fd >= 0)
        return -EALREADY;
    error = refuse_occupied(interface_index);
    if (error)
        return error;
    if (mode != M13_STEER_GENERIC) {
        *chosen = M13_STEER_NATIVE;
        error = attach_as(steer, interface_index, XDP_FLAGS_DRV_MODE);
        if (!error || mode == M13_STEER_NATIVE || error == -EBUSY || error == -EPERM)
            return error;
        /* Drivers refuse for many reasons (none, MTU, queues, LRO): all of them leave generic. */
        *native_error = error;
    }
    *chosen = M13_STEER_GENERIC;
    return attach_as(steer, interface_index, XDP_FLAGS_SKB_MODE);
}

void m13_steer_detach(struct m13_steer *steer)
{
    if (steer->link_fd >= 0)
        close(steer->link_fd);
    steer->link_fd = -1;
}

int m13_steer_set_socket(struct m13_steer *steer, uint32_t queue, int socket_fd)
{
    return bpf_map_update_elem(steer->sockets_fd, &queue, &socket_fd, BPF_ANY);
}

int m13_steer_add_address(struct m13_steer *steer, const uint8_t address[16])
{
    const uint8_t present = 1;

    return bpf_map_update_elem(steer->addresses_fd, address, &present, BPF_ANY);
}

int m13_steer_remove_address(struct m13_steer *steer, const uint8_t address[16])
{
    int error = bpf_map_delete_elem(steer->addresses_fd, address);

    return error == -ENOENT ? 0 : error;
}

int m13_steer_counters(const struct m13_steer *steer, uint64_t out[M13_STEER_VERDICT_COUNT])
{
    for (uint32_t verdict = 0; verdict < M13_STEER_VERDICT_COUNT; verdict++) {
        int error = bpf_map_lookup_elem(steer->counters_fd, &verdict, steer->per_processor);

        if (error)
            return error;
        out[verdict] = 0;
        for (int processor = 0; processor < steer->processors; processor++)
            out[verdict] += steer->per_processor[processor];
    }
    return 0;
}

const char *m13_steer_verdict_name(enum m13_steer_verdict verdict)
{
    switch (verdict) {
#define M13_STEER_NAME(name, text)                                                                 \
    case M13_STEER_##name:                                                                         \
        return #name;
        M13_STEER_VERDICTS(M13_STEER_NAME)
#undef M13_STEER_NAME
    default:
        return "UNKNOWN";
    }
}

const char *m13_steer_verdict_text(enum m13_steer_verdict verdict)
{
    switch (verdict) {
#define M13_STEER_TEXT(name, text)                                                                 \
    case M13_STEER_##name:                                                                         \
        return text;
        M13_STEER_VERDICTS(M13_STEER_TEXT)
#undef M13_STEER_TEXT
    default:
        return "unknown";
    }
}

int m13_steer_test(struct m13_steer *steer, const void *frame, uint32_t bytes, uint32_t *action)
{
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = bytes, .repeat = 1);
    int error = bpf_prog_test_run_opts(steer->program_fd, &options);

    *action = options.retval;
    return error;
}
