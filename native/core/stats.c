/* The telemetry page described to readers, generated from the lists of stats.h and drop.h. */
#include "stats.h"

#include <stddef.h>

#define COUNTER_ROW(field, words) {"counter", #field, "<Q", M13_STAT_##field, words},
#define DROP_ROW(field, words)    {"drop", #field, "<Q", M13_DROP_##field, words},
#define GAUGE_ROW(field, words)   {"gauge", #field, "<Q", M13_GAUGE_##field, words},
#define STAGE_ROW(field, words)   {"stage", #field, "<Q", M13_STAGE_##field, words},
#define PAGE_ROW(field, type)     {"page", #field, type, offsetof(struct m13_stats_page, field), ""},
#define PEER_ROW(field, type)     {"peer", #field, type, offsetof(struct m13_stats_peer, field), ""},

const struct m13_stats_field m13_stats_fields[] = {
    M13_COUNTERS(COUNTER_ROW) M13_DROPS(DROP_ROW) M13_GAUGES(GAUGE_ROW) M13_STAGES(STAGE_ROW)
    /* clang-format off */
    PAGE_ROW(magic, "<Q") PAGE_ROW(version, "<I") PAGE_ROW(page_bytes, "<I")
    PAGE_ROW(pid, "<I") PAGE_ROW(keepalive_ms, "<I") PAGE_ROW(started_ns, "<Q")
    PAGE_ROW(role, "16s") PAGE_ROW(interface_name, "16s") PAGE_ROW(tun_name, "16s")
    PAGE_ROW(receive_mode, "32s") PAGE_ROW(aead_backend, "16s") PAGE_ROW(pqc_provider, "32s")
    PAGE_ROW(memory, "32s") PAGE_ROW(state, "<I") PAGE_ROW(tick_ns, "<Q")
    PAGE_ROW(session_up_ns, "<Q") PAGE_ROW(first_frame_ns, "<Q")
    PEER_ROW(state, "<I") PEER_ROW(generation, "<I") PEER_ROW(address, "16s")
    PEER_ROW(port, "<H") PEER_ROW(handshake_version, "B") PEER_ROW(key_phase, "B")
    PEER_ROW(tunnel_address, "4s") PEER_ROW(endpoint_kind, "B") PEER_ROW(rtt_us, "<I")
    PEER_ROW(loss_per_million, "<I") PEER_ROW(lost_frames, "<Q") PEER_ROW(missing_frames, "<Q")
    PEER_ROW(path_mtu_bytes, "<I")
    PEER_ROW(received_packets, "<Q") PEER_ROW(received_bytes, "<Q")
    PEER_ROW(sent_packets, "<Q") PEER_ROW(sent_bytes, "<Q")
    PEER_ROW(last_heard_ns, "<Q") PEER_ROW(established_ns, "<Q") PEER_ROW(handshakes, "<Q")
    PEER_ROW(fingerprint, "32s") PEER_ROW(name, "32s")
    /* clang-format on */
};
const uint32_t m13_stats_field_count = sizeof m13_stats_fields / sizeof *m13_stats_fields;

#define STATE_NAME(name) [M13_STATE_##name] = #name,
const char *const m13_state_names[M13_STATE_COUNT] = {M13_STATES(STATE_NAME)};
