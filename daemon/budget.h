/* daemon/budget.h: how much memory and how many descriptors artifacts may hold.
 *
 * An artifact is charged before its load begins, by an estimate that is not below what its files will hold, and
 * refunded when its memory is really given back. What is to happen with a load that does not fit is daemon/queue.c's to
 * decide.
 *
 * Thread rule: the event loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <hearth/error.h>

struct artifact;

struct charge {
    uint64_t bytes, fds;
};

/* Sums and differences end where they can go no further: at UINT64_MAX, and at 0. */
struct charge charge_plus(struct charge a, struct charge b);
struct charge charge_minus(struct charge a, struct charge b);
bool charge_is_none(struct charge c);
/* In both. */
bool charge_fits(struct charge c, struct charge limit);

struct budget {
    struct charge limit, used;
    uint64_t huge_page; /* bytes of the pages that large files are on */
};

/* `bytes`: 0 chooses 80 % of the memory that is available now, and with `pool` all that is free in the pool of huge
 * pages, which artifacts are to be kept in then. Raises the soft limit on descriptors to the hard one;
 * a part of it is left to connections and to the program itself. Errors: SYSTEM. */
int budget_init(struct budget *b, uint64_t bytes, bool pool, struct hearth_error *err);

/* Changes the limit of bytes, as budget_init() would have set it. What is above it stays until it goes by itself.
 * Errors: SYSTEM; then nothing has changed. */
int budget_set(struct budget *b, uint64_t bytes, bool pool, struct hearth_error *err);

/* What an artifact's files will hold at most: whole pages, on huge pages where a file is large enough for one. Its
 * index is charged when it is there, by budget_settle(). */
struct charge budget_estimate(const struct budget *b, const struct artifact *a);

/* Of its descriptors, those of its directory and the Hugging Face repository around it, which it holds from being
 * resolved on, while it waits for its turn. */
#define BUDGET_FDS_WAITING 2u

/* Errors: TOO_LARGE, NO_FDS: what was asked, what is in use, what is allowed. `what` names it in the message. */
int budget_charge(struct budget *b, struct charge c, const char *what, struct hearth_error *err);
/* What is missing for so much more: none when it fits. */
struct charge budget_lacking(const struct budget *b, struct charge more);
/* 0 when c would fit if nothing but what is pinned were there; else the errors of budget_charge(), with all the
 * figures: `busy` is what others hold for now. */
int budget_refuse(const struct budget *b, struct charge c, struct charge pinned, struct charge busy, const char *what,
                  struct hearth_error *err);
/* Bytes that are not charged to anybody. */
uint64_t budget_room(const struct budget *b);
void budget_refund(struct budget *b, struct charge c);
/* Replaces a charge by what turned out, which is owed even where it is more than was asked for. */
void budget_settle(struct budget *b, struct charge *charged, struct charge actual);
