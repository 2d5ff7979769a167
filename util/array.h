/* util/array.h: arrays that grow. */
#pragma once

#include <stdlib.h>

/* Makes room for one entry more, of `size` bytes. Returns the array, moved or not, or NULL: it is then as before. */
static inline void *grow_array(void *array, size_t count, size_t *room, size_t size) {
    if (count < *room)
        return array;
    size_t more = *room ? *room * 2 : 16;
    void *moved = reallocarray(array, more, size);
    if (moved)
        *room = more;
    return moved;
}
