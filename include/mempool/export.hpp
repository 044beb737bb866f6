// Marks what libmempool exports; everything else in it is hidden.
#pragma once

#include <version>  // defines _GLIBCXX_USE_CXX11_ABI, where the library is libstdc++

#define MEMPOOL_EXPORT __attribute__((visibility("default")))

// For types that hold a std::string, or hold one that does. Their layout depends on the string's
// ABI, so their names do too: a program that is built with the other one doesn't link, instead of
// crashing. GCC does that by itself for functions that return a string, not for such parameters.
#if defined(_GLIBCXX_USE_CXX11_ABI) && _GLIBCXX_USE_CXX11_ABI
#define MEMPOOL_STRING_ABI __attribute__((abi_tag("cxx11")))
#else
#define MEMPOOL_STRING_ABI
#endif
