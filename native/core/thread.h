/* What a data-plane thread does when it starts, and emptying the descriptors that wake it. */
#ifndef M13_THREAD_H
#define M13_THREAD_H

/* Names the calling thread, puts it ahead of ordinary programs and pins it; core -1 leaves it where
 * the kernel likes. What is not allowed is no error: the thread runs without it. */
void m13_thread_begin(const char *name, int core);

/* Empties an eventfd after poll() reported it; -1 is ignored. */
void m13_thread_drain(int eventfd);

#endif
