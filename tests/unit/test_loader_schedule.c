/* loader/schedule: what is populated, read and hashed next. Streams are made by hand; no thread runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "loader/internal.h"

enum { N_CHUNKS = 10 };

struct fixture {
    struct engine engine;
    struct load loads[2];
    struct stream streams[3];
    uint8_t missing[N_CHUNKS];
    uint32_t ready[N_CHUNKS];
};

/* Streams 0 and 1 are of the older load, all of their chunks have landed, and SHA-256 is at `chunk_next`. */
static void init(struct fixture *f, uint32_t chunk_next0, uint32_t chunk_next1) {
    *f = (struct fixture){0};
    for (unsigned i = 0; i < 3; i++) {
        f->streams[i] = (struct stream){.load = &f->loads[i / 2],
                                        .hashed = true,
                                        .sha256 = true,
                                        .n_chunks = N_CHUNKS,
                                        .missing = f->missing,
                                        .ready = f->ready,
                                        .next = i < 2 ? &f->streams[i + 1] : NULL};
    }
    f->streams[0].chunk_next = chunk_next0;
    f->streams[1].chunk_next = chunk_next1;
    f->engine.streams = f->streams;
}

static void expect(struct fixture *f, unsigned stream, uint32_t chunk) {
    struct stream *s;
    uint32_t c;
    assert_true(schedule_hash(&f->engine, true, &s, &c));
    assert_int_equal(s - f->streams, stream);
    assert_int_equal(c, chunk);
}

static void the_file_with_most_left_is_hashed_first(void **state) {
    (void)state;
    struct fixture f;
    init(&f, 5, 2);
    expect(&f, 1, 2);
    expect(&f, 0, 5); /* the other one is at work */
    assert_int_equal(f.loads[0].users, 2);
}

static void no_load_is_hashed_before_an_older_one(void **state) {
    (void)state;
    struct fixture f;
    init(&f, N_CHUNKS - 1, N_CHUNKS);
    expect(&f, 0, N_CHUNKS - 1);
    expect(&f, 2, 0);
    struct stream *s;
    uint32_t c;
    assert_false(schedule_hash(&f.engine, true, &s, &c));
}

static void what_any_worker_can_hash_at_any_time_goes_last(void **state) {
    (void)state;
    struct fixture f;
    init(&f, 0, N_CHUNKS - 1);
    f.streams[0].sha256 = false;
    f.ready[0] = 7;
    f.streams[0].ready_to = 1;
    expect(&f, 1, N_CHUNKS - 1);
    expect(&f, 0, 7);
}

static void others_help_the_first_worker_when_it_is_behind(void **state) {
    (void)state;
    struct fixture f;
    struct stream *s;
    uint32_t c;
    init(&f, 0, N_CHUNKS);
    f.streams[0].sha256 = false;
    f.streams[2].chunk_next = N_CHUNKS;
    f.streams[0].ready_to = 2;
    assert_false(schedule_hash(&f.engine, false, &s, &c));
    f.streams[0].ready_to = 3;
    assert_true(schedule_hash(&f.engine, false, &s, &c));
    assert_false(schedule_hash(&f.engine, false, &s, &c));
    assert_true(schedule_hash(&f.engine, true, &s, &c));
    assert_true(schedule_hash(&f.engine, true, &s, &c));
    assert_false(schedule_hash(&f.engine, true, &s, &c));
}

static void urgent_loads_are_hashed_before_older_ones_in_the_background(void **state) {
    (void)state;
    struct fixture f;
    init(&f, N_CHUNKS - 1, N_CHUNKS);
    f.loads[0].background = true;
    f.streams[2].chunk_next = N_CHUNKS - 1;
    expect(&f, 2, N_CHUNKS - 1);
    expect(&f, 0, N_CHUNKS - 1);
}

static void a_failed_load_and_what_has_not_landed_are_passed_over(void **state) {
    (void)state;
    struct fixture f;
    init(&f, 0, 0);
    f.loads[0].failed = true;
    expect(&f, 2, 0);
    f.streams[2].hash_busy = false;
    f.missing[1] = 1;
    struct stream *s;
    uint32_t c;
    assert_false(schedule_hash(&f.engine, true, &s, &c));
}

/* One stream of each of two loads of one device, the older one in the background; bounds of 64 MiB. */
enum { CLASS_BLOCKS = 64 };
struct classes {
    struct engine engine;
    struct device device;
    struct load loads[2];
    struct stream streams[2];
    uint8_t blocks[2][CLASS_BLOCKS], pieces[2][CLASS_BLOCKS];
};

static void noop_wake(struct reader *r) {
    (void)r;
}

static void classes_init(struct classes *c) {
    static struct reader reader = {.wake = noop_wake};
    *c = (struct classes){
        .engine = {.reader = &reader,
                   .n_hashers = 1,
                   .options = {.populate_ahead = 32 * BLOCK_BYTES, .bytes_in_flight = 32 * BLOCK_BYTES}},
        .loads = {{.engine = &c->engine, .users = 1, .parsed = true, .background = true},
                  {.engine = &c->engine, .users = 1, .parsed = true}},
    };
    pthread_mutex_init(&c->engine.lock, NULL);
    for (unsigned i = 0; i < 2; i++)
        c->streams[i] = (struct stream){.load = &c->loads[i],
                                        .device = &c->device,
                                        .bytes = CLASS_BLOCKS * BLOCK_BYTES,
                                        .piece_bytes = BLOCK_BYTES,
                                        .block_bytes = BLOCK_BYTES,
                                        .n_blocks = CLASS_BLOCKS,
                                        .n_pieces = CLASS_BLOCKS,
                                        .blocks = c->blocks[i],
                                        .pieces = c->pieces[i],
                                        .populate_step = BLOCK_BYTES,
                                        .next = i == 0 ? &c->streams[1] : NULL};
    c->engine.streams = c->streams;
}

/* Populates all that may be and returns how much of `which` was. */
static uint64_t populate_all(struct classes *c, unsigned which) {
    struct stream *s;
    uint64_t at, length, bytes = 0;
    while (schedule_populate(&c->engine, true, &s, &at, &length)) {
        populated(s, at, length);
        bytes += s == &c->streams[which] ? length : 0;
    }
    return bytes;
}

static unsigned read_all(struct classes *c, unsigned which) {
    struct stream *s;
    uint32_t piece;
    unsigned n = 0;
    while (schedule_read(&c->engine, &s, &piece))
        n += s == &c->streams[which];
    return n;
}

static void urgent_work_goes_before_background_work_that_came_first(void **state) {
    (void)state;
    struct classes c;
    struct stream *s;
    uint64_t at, length;
    uint32_t piece;
    classes_init(&c);
    assert_true(schedule_populate(&c.engine, true, &s, &at, &length));
    assert_ptr_equal(s, &c.streams[1]);
    populated(s, at, length);
    memset(c.blocks, DONE, sizeof(c.blocks));
    c.device.ahead = sizeof(c.blocks) * BLOCK_BYTES;
    assert_true(schedule_read(&c.engine, &s, &piece));
    assert_ptr_equal(s, &c.streams[1]);
}

static void in_the_background_a_quarter_of_what_may_be_under_way_is(void **state) {
    (void)state;
    struct classes c;
    classes_init(&c);
    c.streams[0].next = NULL; /* the urgent one has yet to come */
    assert_int_equal(populate_all(&c, 0), 8 * BLOCK_BYTES);
    assert_int_equal(read_all(&c, 0), 8);
    c.streams[0].next = &c.streams[1];
    assert_in_range(populate_all(&c, 1), 32 * BLOCK_BYTES, 32 * BLOCK_BYTES + POPULATE_STEP_MAX);
    assert_int_equal(read_all(&c, 1), 24);
    assert_int_equal(c.device.in_flight, 32 * BLOCK_BYTES);
}

static void less_is_under_way_while_somebody_may_want_a_range_and_what_is_wanted_goes_beyond(void **state) {
    (void)state;
    struct classes c;
    classes_init(&c);
    memset(c.blocks, DONE, sizeof(c.blocks));
    c.device.ahead = 2 * CLASS_BLOCKS * BLOCK_BYTES;
    c.engine.streams = &c.streams[1];
    c.engine.loads = &c.loads[1];
    c.loads[1].page.shared = true; /* a client uses what is there */
    assert_int_equal(read_all(&c, 1), 4);
    c.loads[1].page.shared = c.loads[1].parsed = false; /* the parser may want some */
    assert_int_equal(read_all(&c, 1), 4);
    want(&c.loads[1], 0, &c.streams[1], 40, 43);
    assert_int_equal(read_all(&c, 1), 4);
    assert_int_equal(c.pieces[1][40] + c.pieces[1][43], 2 * BUSY);
    c.loads[1].parsed = true;
    assert_int_equal(read_all(&c, 1), 20);
}

static void a_load_that_is_hastened_has_what_urgent_ones_have(void **state) {
    (void)state;
    struct classes c;
    classes_init(&c);
    c.streams[0].next = NULL;
    assert_int_equal(populate_all(&c, 0), 8 * BLOCK_BYTES);
    load_hasten(&c.loads[0]);
    assert_in_range(populate_all(&c, 0), 24 * BLOCK_BYTES, 24 * BLOCK_BYTES + POPULATE_STEP_MAX);
    assert_int_equal(read_all(&c, 0), 32);
}

enum { N_STREAMS = 9, N_PIECES = 6 };

/* More files than go side by side, all as long: they all come to their end in the same turn. */
static void files_that_go_side_by_side_make_room_for_the_others(void **state) {
    (void)state;
    struct engine e = {.n_hashers = 1, .options = {.populate_ahead = UINT64_MAX, .bytes_in_flight = UINT64_MAX}};
    struct device d = {0};
    struct load l = {.engine = &e, .users = 1, .parsed = true};
    struct stream streams[N_STREAMS];
    uint8_t blocks[N_STREAMS][N_PIECES] = {{0}}, pieces[N_STREAMS][N_PIECES] = {{0}};
    for (unsigned i = 0; i < N_STREAMS; i++)
        streams[i] = (struct stream){.load = &l,
                                     .device = &d,
                                     .bytes = N_PIECES * POPULATE_STEP_MAX,
                                     .piece_bytes = POPULATE_STEP_MAX,
                                     .block_bytes = POPULATE_STEP_MAX,
                                     .n_blocks = N_PIECES,
                                     .n_pieces = N_PIECES,
                                     .blocks = blocks[i],
                                     .pieces = pieces[i],
                                     .populate_step = POPULATE_STEP_MAX,
                                     .sha256 = true,
                                     .next = i + 1 < N_STREAMS ? &streams[i + 1] : NULL};
    e.streams = streams;
    struct stream *s;
    uint64_t at, length;
    uint32_t piece;
    unsigned reading = 0;
    while (schedule_populate(&e, true, &s, &at, &length))
        populated(s, at, length);
    for (unsigned i = 0; i < N_STREAMS; i++)
        assert_int_equal(streams[i].blocks_done, N_PIECES);
    while (reading < DEVICE_READS_MAX && schedule_read(&e, &s, &piece))
        reading++;
    assert_int_equal(reading, N_STREAMS * N_PIECES);
}

static void wake_nobody(struct reader *r) {
    (void)r;
}

/* A range that somebody waits for goes before the file's own order, a few pieces at a time, and is over when it has
 * landed. */
static void what_is_wanted_goes_first_a_few_pieces_at_a_time(void **state) {
    (void)state;
    enum { PIECES = 40, FROM = 20, TO = 35 };
    struct reader r = {.wake = wake_nobody};
    struct engine e = {
        .reader = &r, .n_hashers = 1, .options = {.populate_ahead = UINT64_MAX, .bytes_in_flight = UINT64_MAX}};
    struct device d = {0};
    struct load l = {.engine = &e, .parsed = true};
    uint8_t blocks[PIECES] = {0}, pieces[PIECES] = {0}, missing[PIECES];
    memset(missing, 1, sizeof(missing));
    struct stream *s, one = {.load = &l,
                             .device = &d,
                             .bytes = PIECES * CHUNK_BYTES,
                             .piece_bytes = CHUNK_BYTES,
                             .block_bytes = CHUNK_BYTES,
                             .n_blocks = PIECES,
                             .n_pieces = PIECES,
                             .blocks = blocks,
                             .pieces = pieces,
                             .missing = missing,
                             .populate_step = CHUNK_BYTES};
    pthread_cond_init(&e.populate_wanted, NULL);
    pthread_cond_init(&l.changed, NULL);
    e.loads = &l;
    e.streams = &one;
    uint64_t at, length;
    uint32_t piece;
    want(&l, 3, &one, FROM, TO);
    assert_true(schedule_populate(&e, true, &s, &at, &length));
    assert_int_equal(at / CHUNK_BYTES, FROM);
    populated(s, at, length);
    while (schedule_populate(&e, true, &s, &at, &length))
        populated(s, at, length);
    for (uint32_t i = 0; i < WANTED_PIECES_MAX; i++) {
        assert_true(schedule_read(&e, &s, &piece));
        assert_int_equal(piece, FROM + i);
    }
    assert_true(schedule_read(&e, &s, &piece)); /* those that wait for nothing in particular come in between */
    assert_int_equal(piece, 0);
    piece_landed(&one, FROM, false);
    assert_true(schedule_read(&e, &s, &piece));
    assert_int_equal(piece, FROM + WANTED_PIECES_MAX);
    for (uint32_t i = FROM + 1; i <= TO; i++) {
        assert_ptr_equal(l.wanted[3].stream, &one);
        piece_landed(&one, i, false);
    }
    assert_null(l.wanted[3].stream);
    want(&l, 0, &one, FROM, TO); /* is there already */
    assert_null(l.wanted[0].stream);
    pthread_cond_destroy(&e.populate_wanted);
    pthread_cond_destroy(&l.changed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_with_most_left_is_hashed_first),
        cmocka_unit_test(no_load_is_hashed_before_an_older_one),
        cmocka_unit_test(what_any_worker_can_hash_at_any_time_goes_last),
        cmocka_unit_test(others_help_the_first_worker_when_it_is_behind),
        cmocka_unit_test(urgent_loads_are_hashed_before_older_ones_in_the_background),
        cmocka_unit_test(urgent_work_goes_before_background_work_that_came_first),
        cmocka_unit_test(in_the_background_a_quarter_of_what_may_be_under_way_is),
        cmocka_unit_test(less_is_under_way_while_somebody_may_want_a_range_and_what_is_wanted_goes_beyond),
        cmocka_unit_test(a_load_that_is_hastened_has_what_urgent_ones_have),
        cmocka_unit_test(a_failed_load_and_what_has_not_landed_are_passed_over),
        cmocka_unit_test(files_that_go_side_by_side_make_room_for_the_others),
        cmocka_unit_test(what_is_wanted_goes_first_a_few_pieces_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
