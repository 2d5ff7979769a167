/* cli/doctor_finding.c: what a check says; see doctor.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/doctor.h"

static char *format_or_abort(const char *format, va_list args) {
    char *text;
    if (vasprintf(&text, format, args) < 0)
        abort();
    return text;
}

struct finding *finding_add(struct doctor *d, const char *check, enum level level, const char *format, ...) {
    struct finding *grown = reallocarray(d->findings, d->n_findings + 1, sizeof(*grown));
    if (!grown)
        abort();
    d->findings = grown;
    struct finding *f = &grown[d->n_findings++];
    va_list args;
    va_start(args, format);
    *f = (struct finding){.check = check, .level = level, .found = format_or_abort(format, args)};
    va_end(args);
    return f;
}

void finding_cost(struct finding *f, const char *format, ...) {
    va_list args;
    va_start(args, format);
    free(f->cost);
    f->cost = format_or_abort(format, args);
    va_end(args);
}

void finding_mend(struct finding *f, const char *format, ...) {
    va_list args;
    va_start(args, format);
    free(f->mend);
    f->mend = format_or_abort(format, args);
    va_end(args);
}

void doctor_deinit(struct doctor *d) {
    for (size_t i = 0; i < d->n_findings; i++) {
        free(d->findings[i].found);
        free(d->findings[i].cost);
        free(d->findings[i].mend);
    }
    free(d->findings);
    *d = (struct doctor){0};
}
