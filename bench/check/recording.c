/* Reading pcap: only what bench/check/record.py writes, little endian with nanoseconds. */
#include "recording.h"

#include <stdio.h>
#include <stdlib.h>

#include "offload.h"
#include "stages.h"

#define LINE_BYTES             64
#define PCAP_MAGIC_NANOSECONDS 0xA1B23C4D
#define PCAP_LINKTYPE_USER0    147
#define MEMORY_BYTES           (16u << 20)

struct pcap_header {
    uint32_t magic;
    uint16_t version[2];
    uint32_t zone_and_accuracy[2];
    uint32_t record_bytes_max;
    uint32_t link_type;
};

struct pcap_record {
    uint32_t seconds;
    uint32_t nanoseconds;
    uint32_t bytes;
    uint32_t bytes_of_packet;
};

static bool take(FILE *file, void *target, size_t bytes)
{
    return fread(target, 1, bytes, file) == bytes;
}

void recording_open(struct recording *recording, const char *path)
{
    struct pcap_header header;
    struct pcap_record record;
    uint32_t used_bytes = 0;
    FILE *file = fopen(path, "rb");
    stages_require(file && take(file, &header, sizeof header), "the recording cannot be read");
    stages_require(header.magic == PCAP_MAGIC_NANOSECONDS &&
                       header.link_type == PCAP_LINKTYPE_USER0,
                   "not a recording of bench.check.record");
    recording->count = 0;
    recording->memory = stages_memory(MEMORY_BYTES);
    recording->reads = stages_memory(MEMORY_BYTES / LINE_BYTES * sizeof(struct recorded_read));
    while (take(file, &record, sizeof record)) {
        uint32_t line_bytes = (record.bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
        uint8_t *data = recording->memory + used_bytes;
        stages_require(record.bytes && record.bytes == record.bytes_of_packet &&
                           record.bytes <= M13_OFFLOAD_HEADER_BYTES + M13_OFFLOAD_PACKET_MAX &&
                           line_bytes <= MEMORY_BYTES - used_bytes,
                       "a recorded packet is cut off, or there are too many");
        stages_require(take(file, data, record.bytes), "the recording ends within a packet");
        recording->reads[recording->count++] =
            (struct recorded_read){.data = data, .bytes = record.bytes};
        used_bytes += line_bytes;
    }
    fclose(file);
}

void recording_close(struct recording *recording)
{
    free(recording->reads);
    free(recording->memory);
}
