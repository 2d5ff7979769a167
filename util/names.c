/* util/names.c: the names of public enum values, as JSON, tables and logs spell them. Declared in hearth.h. */
#include <hearth/hearth.h>

#define NAME_OF(names, v) ((size_t)(v) < sizeof(names) / sizeof(names[0]) && names[v] ? names[v] : "unknown")

const char *hearth_role_name(enum hearth_role v) {
    static const char *const names[] = {"other", "weights", "config", "tokenizer", "preprocessing", "metadata", "code"};
    return NAME_OF(names, v);
}

const char *hearth_verified_name(enum hearth_verified v) {
    static const char *const names[] = {"none", "recorded", "matched", "sha256", "signed"};
    return NAME_OF(names, v);
}

const char *hearth_state_name(enum hearth_state v) {
    static const char *const names[] = {NULL, "resolving", "queued", "loading", "resident", "failed", "gone"};
    return NAME_OF(names, v);
}

const char *hearth_backing_name(enum hearth_backing v) {
    static const char *const names[] = {"none", "shmem", "shmem-huge", "hugetlb"};
    return NAME_OF(names, v);
}

const char *hearth_wait_name(enum hearth_wait v) {
    static const char *const names[] = {"nothing", "turn", "memory", "descriptors"};
    return NAME_OF(names, v);
}

const char *hearth_phase_name(enum hearth_phase v) {
    static const char *const names[] = {"resolve", "open",  "first_byte", "read",   "populate",
                                        "hash",    "parse", "seal",       "publish"};
    return NAME_OF(names, v);
}

const char *hearth_version(void) {
    return HEARTH_VERSION;
}
