/* What the parts of the driver share: its one way to fail, and memory that costs the same always.
 */
#ifndef M13_CHECK_STAGES_H
#define M13_CHECK_STAGES_H

#include <stdbool.h>
#include <stdint.h>

/* Ends the program with one line when the condition does not hold. */
void stages_require(bool condition, const char *complaint);

/* Zeroed, from the beginning of a page: copying must not depend on where memory happens to lie. */
void *stages_memory(uint64_t bytes);

#endif
