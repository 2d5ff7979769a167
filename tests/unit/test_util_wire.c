/* util/wire: what is written is read back; whatever else a packet says is refused, without a look behind its end. Each
 * hostile packet is read from a heap block of exactly its size, so that AddressSanitizer sees any such look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/wire.h"

static struct wire_out w;

static long build_load(void) {
    struct hearth_msg_load *load = wire_begin(&w, HEARTH_MSG_LOAD, 7, sizeof(*load));
    load->flags = HEARTH_LOAD_PROGRESS;
    load->ref = wire_put_str(&w, "/models/a");
    void *globs, *digests;
    load->include = wire_put_list(&w, 2, sizeof(struct hearth_wire_str), &globs);
    ((struct hearth_wire_str *)globs)[0] = wire_put_str(&w, "*.json");
    ((struct hearth_wire_str *)globs)[1] = wire_put_str(&w, "x");
    load->digests = wire_put_list(&w, 1, sizeof(struct hearth_wire_digest), &digests);
    ((struct hearth_wire_digest *)digests)->path = wire_put_str(&w, "w");
    return wire_end(&w);
}

/* Reads a LOAD to the end, as a server would: 0, or the first error. */
static int read_load(const void *packet, size_t bytes) {
    struct wire_in in;
    struct hearth_msg_load load;
    char text[64];
    const void *list;
    int r = wire_open(&in, packet, bytes);
    if (r < 0)
        return r;
    wire_fixed(&in, &load, sizeof(load));
    if ((r = wire_get_str(&in, load.ref, text, sizeof(text))) < 0)
        return r;
    if ((r = wire_get_list(&in, load.include, sizeof(struct hearth_wire_str), &list)) < 0)
        return r;
    for (uint32_t i = 0; i < load.include.count; i++) {
        struct hearth_wire_str s;
        memcpy(&s, (const char *)list + i * sizeof(s), sizeof(s));
        if ((r = wire_get_str(&in, s, text, sizeof(text))) < 0)
            return r;
    }
    if ((r = wire_get_list(&in, load.digests, sizeof(struct hearth_wire_digest), &list)) < 0)
        return r;
    for (uint32_t i = 0; i < load.digests.count; i++) {
        struct hearth_wire_digest d;
        memcpy(&d, (const char *)list + i * sizeof(d), sizeof(d));
        if ((r = wire_get_str(&in, d.path, text, sizeof(text))) < 0)
            return r;
    }
    return 0;
}

static void what_is_written_is_read_back(void **state) {
    (void)state;
    long bytes = build_load();
    assert_true(bytes > 0);
    struct wire_in in;
    assert_int_equal(wire_open(&in, w.buffer, (size_t)bytes), 0);
    assert_int_equal(in.header.type, HEARTH_MSG_LOAD);
    assert_int_equal(in.header.serial, 7);
    assert_int_equal(in.header.bytes, bytes);
    struct hearth_msg_load load;
    wire_fixed(&in, &load, sizeof(load));
    char text[64];
    assert_int_equal(load.flags, HEARTH_LOAD_PROGRESS);
    assert_int_equal(wire_get_str(&in, load.ref, text, sizeof(text)), 0);
    assert_string_equal(text, "/models/a");
    const void *list;
    assert_int_equal(load.include.count, 2);
    assert_int_equal(load.include.offset % 4, 0);
    assert_int_equal(wire_get_list(&in, load.include, sizeof(struct hearth_wire_str), &list), 0);
    assert_int_equal(wire_get_str(&in, ((const struct hearth_wire_str *)list)[0], text, sizeof(text)), 0);
    assert_string_equal(text, "*.json");
    assert_int_equal(load.digests.count, 1);
    assert_int_equal(load.exclude.count, 0);
    assert_int_equal(wire_get_list(&in, load.exclude, sizeof(struct hearth_wire_str), &list), 0);
    assert_null(list);
}

static void every_packet_that_is_cut_is_refused(void **state) {
    (void)state;
    size_t bytes = (size_t)build_load();
    for (size_t length = 0; length < bytes; length++) {
        uint8_t *cut = malloc(length + (length == 0));
        assert_non_null(cut);
        memcpy(cut, w.buffer, length);
        assert_int_equal(read_load(cut, length), -EBADMSG);
        /* Nor does it help to agree on the length: strings and lists then lie outside. */
        if (length >= sizeof(struct hearth_msg)) {
            uint32_t claimed = (uint32_t)length;
            memcpy(cut, &claimed, sizeof(claimed));
            assert_int_equal(read_load(cut, length), -EBADMSG);
        }
        free(cut);
    }
}

static void a_flipped_byte_is_read_or_refused_but_never_followed_outside(void **state) {
    (void)state;
    size_t bytes = (size_t)build_load();
    uint8_t *packet = malloc(bytes);
    assert_non_null(packet);
    unsigned refused = 0;
    for (size_t at = 0; at < bytes; at++)
        for (unsigned flip = 1; flip < 256; flip++) {
            memcpy(packet, w.buffer, bytes);
            packet[at] ^= (uint8_t)flip;
            int r = read_load(packet, bytes);
            assert_true(r == 0 || r == -EBADMSG || r == -ENAMETOOLONG);
            refused += r != 0;
        }
    free(packet);
    assert_true(refused > 255 * 4); /* the length's four bytes alone make so many */
}

static void ranges_that_wrap_around_are_refused(void **state) {
    (void)state;
    size_t bytes = (size_t)build_load();
    struct wire_in in;
    assert_int_equal(wire_open(&in, w.buffer, bytes), 0);
    const char *p;
    size_t length;
    const void *list;
    const uint32_t n = (uint32_t)bytes;
    assert_int_equal(wire_get_bytes(&in, (struct hearth_wire_str){UINT32_MAX, 1}, &p, &length), -EBADMSG);
    assert_int_equal(wire_get_bytes(&in, (struct hearth_wire_str){1, UINT32_MAX}, &p, &length), -EBADMSG);
    assert_int_equal(wire_get_bytes(&in, (struct hearth_wire_str){n, 1}, &p, &length), -EBADMSG);
    assert_int_equal(length, 0);
    assert_int_equal(wire_get_list(&in, (struct hearth_wire_list){UINT32_MAX - 3, 4}, 4, &list), -EBADMSG);
    assert_int_equal(wire_get_list(&in, (struct hearth_wire_list){16, UINT32_MAX}, 40, &list), -EBADMSG);
    assert_int_equal(wire_get_list(&in, (struct hearth_wire_list){0, 0x10000000}, 16, &list), -EBADMSG);
    assert_int_equal(wire_get_list(&in, (struct hearth_wire_list){18, 1}, 4, &list), -EBADMSG); /* not aligned */
    assert_null(list);
}

static void a_string_with_a_nul_inside_is_refused(void **state) {
    (void)state;
    struct hearth_msg_load *load = wire_begin(&w, HEARTH_MSG_LOAD, 1, sizeof(*load));
    load->ref = wire_put_bytes(&w, "/a\0b", 4);
    assert_int_equal(read_load(w.buffer, (size_t)wire_end(&w)), -EBADMSG);
}

static void a_string_too_long_is_refused_and_a_text_is_cut(void **state) {
    (void)state;
    struct hearth_msg_load *load = wire_begin(&w, HEARTH_MSG_LOAD, 1, sizeof(*load));
    struct hearth_wire_str s = load->ref = wire_put_str(&w, "12345678");
    struct wire_in in;
    assert_int_equal(wire_open(&in, w.buffer, (size_t)wire_end(&w)), 0);
    char text[8], enough[9];
    assert_int_equal(wire_get_str(&in, s, text, sizeof(text)), -ENAMETOOLONG);
    assert_string_equal(text, "");
    assert_int_equal(wire_get_text(&in, s, text, sizeof(text)), 0);
    assert_string_equal(text, "1234567");
    assert_int_equal(wire_get_str(&in, s, enough, sizeof(enough)), 0);
    assert_string_equal(enough, "12345678");
}

static void what_an_older_peer_does_not_send_reads_as_zeros(void **state) {
    (void)state;
    struct hearth_msg_attach *attach = wire_begin(&w, HEARTH_MSG_ATTACH, 1, sizeof(attach->id));
    attach->id = 5;
    struct wire_in in;
    assert_int_equal(wire_open(&in, w.buffer, (size_t)wire_end(&w)), 0);
    struct hearth_msg_attach got;
    memset(&got, 0xff, sizeof(got));
    wire_fixed(&in, &got, sizeof(got));
    assert_int_equal(got.id, 5);
    assert_int_equal(got.flags, 0);
    /* And what a newer one sends on top is passed over. */
    memset(wire_begin(&w, HEARTH_MSG_ATTACH, 1, sizeof(got) + 8), 0xff, sizeof(got) + 8);
    assert_int_equal(wire_open(&in, w.buffer, (size_t)wire_end(&w)), 0);
    struct {
        struct hearth_msg_attach known;
        uint64_t guard;
    } newer = {.guard = 1};
    wire_fixed(&in, &newer.known, sizeof(newer.known));
    assert_int_equal(newer.known.reserved, UINT32_MAX);
    assert_int_equal(newer.guard, 1);
}

static void what_does_not_fit_a_packet_is_an_error_not_a_short_packet(void **state) {
    (void)state;
    static const char block[1024];
    struct hearth_msg_status *status = wire_begin(&w, HEARTH_MSG_STATUS, 1, sizeof(*status));
    assert_non_null(status);
    for (size_t i = 0; i < HEARTH_PACKET_MAX / sizeof(block); i++)
        wire_put_bytes(&w, block, sizeof(block));
    assert_int_equal(wire_end(&w), -EMSGSIZE);

    void *list;
    wire_begin(&w, HEARTH_MSG_STATUS, 1, sizeof(*status));
    struct hearth_wire_list none = wire_put_list(&w, SIZE_MAX / 8, 16, &list); /* count * size wraps around */
    assert_null(list);
    assert_int_equal(none.count, 0);
    assert_int_equal(wire_end(&w), -EMSGSIZE);

    /* To the last byte, on the other hand, a packet is usable. */
    wire_begin(&w, HEARTH_MSG_STATUS, 1, sizeof(*status));
    static const char rest[HEARTH_PACKET_MAX - sizeof(struct hearth_msg) - sizeof(*status)];
    wire_put_bytes(&w, rest, sizeof(rest));
    assert_int_equal(wire_end(&w), HEARTH_PACKET_MAX);
}

static void an_error_goes_over_the_wire_with_all_its_facts(void **state) {
    (void)state;
    static struct hearth_error sent, got;
    error_set(&sent, HEARTH_E_INTEGRITY, "the digest of %s differs", "w");
    error_at(&sent, "/a/w", 12);
    error_expected(&sent, "aa");
    error_found(&sent, "bb");
    error_hint(&sent, "fetch it again");
    struct wire_in in;
    assert_int_equal(wire_open(&in, w.buffer, (size_t)wire_error(&w, 9, &sent)), 0);
    assert_int_equal(in.header.serial, 9);
    assert_int_equal(wire_get_error(&in, &got), 0);
    assert_int_equal(got.code, HEARTH_E_INTEGRITY);
    assert_int_equal(got.offset, 12);
    assert_string_equal(got.message, sent.message);
    assert_string_equal(got.file, sent.file);
    assert_string_equal(got.expected, "aa");
    assert_string_equal(got.found, "bb");
    assert_string_equal(got.hint, "fetch it again");
}

static void the_longest_error_fits_a_packet(void **state) {
    (void)state;
    static struct hearth_error sent, got;
    error_clear(&sent);
    sent.code = HEARTH_E_IO;
    memset(sent.message, 'm', sizeof(sent.message) - 1);
    memset(sent.file, 'f', sizeof(sent.file) - 1);
    memset(sent.expected, 'e', sizeof(sent.expected) - 1);
    memset(sent.found, 'g', sizeof(sent.found) - 1);
    memset(sent.hint, 'h', sizeof(sent.hint) - 1);
    struct wire_in in;
    assert_int_equal(wire_open(&in, w.buffer, (size_t)wire_error(&w, 9, &sent)), 0);
    assert_int_equal(wire_get_error(&in, &got), 0);
    assert_memory_equal(&got, &sent, sizeof(got));
}

static void an_error_without_a_code_is_one_all_the_same(void **state) {
    (void)state;
    static struct hearth_error got;
    struct hearth_msg_error *e = wire_begin(&w, HEARTH_MSG_ERROR, 9, sizeof(*e));
    e->code = HEARTH_OK;
    struct wire_in in;
    assert_int_equal(wire_open(&in, w.buffer, (size_t)wire_end(&w)), 0);
    assert_int_equal(wire_get_error(&in, &got), 0);
    assert_int_equal(got.code, HEARTH_E_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_packet_that_is_cut_is_refused),
        cmocka_unit_test(a_flipped_byte_is_read_or_refused_but_never_followed_outside),
        cmocka_unit_test(ranges_that_wrap_around_are_refused),
        cmocka_unit_test(a_string_with_a_nul_inside_is_refused),
        cmocka_unit_test(a_string_too_long_is_refused_and_a_text_is_cut),
        cmocka_unit_test(what_an_older_peer_does_not_send_reads_as_zeros),
        cmocka_unit_test(what_does_not_fit_a_packet_is_an_error_not_a_short_packet),
        cmocka_unit_test(an_error_goes_over_the_wire_with_all_its_facts),
        cmocka_unit_test(the_longest_error_fits_a_packet),
        cmocka_unit_test(an_error_without_a_code_is_one_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
