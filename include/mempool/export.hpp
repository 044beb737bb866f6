// Marks what libmempool exports; everything else in it is hidden.
#pragma once

#define MEMPOOL_EXPORT __attribute__((visibility("default")))
