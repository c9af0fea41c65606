/* A target with a hole: it must be found, or the fuzzers are not looking. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(8);
    if (copy && size >= 8) {
        memcpy(copy, data, 8);
        if (copy[0] == 'M' && copy[1] == '1' && copy[2] == '3')
            copy[size]++; /* beyond the eight bytes */
    }
    free(copy);
    return 0;
}
