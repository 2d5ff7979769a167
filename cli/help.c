/* cli/help.c: the list of verbs, and help made from what each says of itself. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct verb *const verbs[] = {
    &verb_load,    &verb_wait,   &verb_cancel, &verb_watch,   &verb_ls,    &verb_status, &verb_health,
    &verb_inspect, &verb_attach, &verb_cat,    &verb_run,     &verb_evict, &verb_pin,    &verb_unpin,
    &verb_stop,    &verb_top,    &verb_doctor, &verb_history, &verb_time,
};
#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

const struct verb *verb_find(const char *name) {
    for (size_t i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    return NULL;
}

void help_program(FILE *out) {
    fputs("Usage: hearth VERB [OPTION...] [ARGUMENT...]\n\n"
          "Keeps AI model artifacts warm: loads them once, verified, and shares one copy.\n\n",
          out);
    for (size_t i = 0; i < N_VERBS; i++)
        fprintf(out, "  %-8s %s\n", verbs[i]->name, verbs[i]->summary);
    fputs("  help     show this, or help on a verb: hearth help load\n\n"
          "REF is a path (a directory or one file), SOURCE/PATH, hf/ORG/NAME[@REV] of your Hugging Face cache,\n"
          "or the id of an artifact that `hearth ls` shows.\n\n"
          "Options before or behind the verb:\n",
          out);
    options_help(OPTIONS_DAEMON | OPTIONS_ALL | OPTION_VERSION, out);
    fputs("\nExit status: 0 done, 1 failed, 2 usage, 3 no daemon answers, 4 refused (its content is malformed,\n"
          "unsafe or not what was expected). `run` passes the program's own on.\n",
          out);
}

void help_verb(const struct verb *v, FILE *out) {
    fprintf(out, "Usage: hearth %s [OPTION...]%s%s\n\n%s.\n", v->name, v->operands[0] ? " " : "", v->operands,
            v->summary);
    if (v->about)
        fprintf(out, "\n%s\n", v->about);
    fputs("\nOptions:\n", out);
    options_help(v->options | OPTIONS_ALL, out);
    fprintf(out, "\nExamples:\n%s", v->examples);
}
