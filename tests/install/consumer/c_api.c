/* The C header has to compile as C. */
#include <mempool/mempool.h>
