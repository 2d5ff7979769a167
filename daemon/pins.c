/* daemon/pins.c: see pins.h. They are few: operators make them. */
#include "daemon/pins.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"

struct pin {
    TAILQ_ENTRY(pin) link;
    struct load_spec *spec;
};

void pins_init(struct pins *p) {
    TAILQ_INIT(&p->all);
}

static void drop(struct pins *p, struct pin *pin) {
    TAILQ_REMOVE(&p->all, pin, link);
    load_spec_free(pin->spec);
    free(pin);
}

void pins_deinit(struct pins *p) {
    while (!TAILQ_EMPTY(&p->all))
        drop(p, TAILQ_FIRST(&p->all));
}

bool pins_any(const struct pins *p) {
    return !TAILQ_EMPTY(&p->all);
}

bool pins_has(const struct pins *p, const struct load_spec *spec) {
    const struct pin *pin;
    TAILQ_FOREACH(pin, &p->all, link)
    if (load_spec_same_files(pin->spec, spec))
        return true;
    return false;
}

int pins_put(struct pins *p, const struct load_spec *spec, struct hearth_error *err) {
    struct pin *pin = calloc(1, sizeof(*pin));
    if (!pin || !(pin->spec = load_spec_copy(spec))) {
        free(pin);
        return error_set(err, HEARTH_E_NO_MEMORY, "no memory for a pin");
    }
    pins_remove(p, spec->ref);
    TAILQ_INSERT_TAIL(&p->all, pin, link);
    return 0;
}

void pins_remove(struct pins *p, const char *ref) {
    struct pin *pin;
    TAILQ_FOREACH(pin, &p->all, link)
    if (strcmp(pin->spec->ref, ref) == 0)
        break;
    if (pin)
        drop(p, pin);
}
