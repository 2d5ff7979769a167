/* daemon/reserve.h: memory held ready for the next load, as long as nobody else needs it.
 *
 * The engine holds it (loader/hold.h); this says how much: as much as is configured, as far as the budget has room
 * beside what artifacts have been charged. So hearthd is never larger for it than its budget says, and nothing is
 * counted twice. And it passes on the kernel's word of pressure (PSI): a task of the machine has waited for memory for
 * a tenth of a second within two. The kernel sends none while there is none, so that an idle daemon sleeps. Where it
 * never sends any, and where a control group has a limit, the engine looks at what is available from time to time.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct loop;

struct reserve {
    struct loop *loop;
    struct engine *engine;
    const char *root; /* goes before /proc and /sys: "" but in tests */
    uint64_t asked;   /* bytes, of the engine */
    bool listens;     /* it has been tried to */
    int pressure;     /* a trigger, or -1 */
};

void reserve_init(struct reserve *r, struct loop *l, struct engine *e, const char *root);
/* In each turn of the loop; cheap where nothing has changed. `wanted`: as configured; `room`: what the budget has left.
 */
void reserve_turn(struct reserve *r, uint64_t wanted, uint64_t room);
/* May run twice, and on one that is all zero. */
void reserve_deinit(struct reserve *r);
