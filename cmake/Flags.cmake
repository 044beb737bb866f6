# mempool_warnings: every target of this project links it PRIVATE; one that is installed links
# $<BUILD_INTERFACE:mempool_warnings>, since the target itself is not.
add_library(mempool_warnings INTERFACE)
target_compile_options(mempool_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow
  $<$<BOOL:${MEMPOOL_WERROR}>:-Werror>)
# GCC 12 sees bounds broken inside std::string where there are none, here or there with every change of
# what is inlined (gcc.gnu.org/PR105651 and others).
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(mempool_warnings INTERFACE
    -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict)
endif()

# For the whole directory tree and not by a target: a process is sanitized as a whole or not at all.
if(MEMPOOL_SANITIZE)
  add_compile_options(-fsanitize=${MEMPOOL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MEMPOOL_SANITIZE})
  if(MEMPOOL_SANITIZE MATCHES undefined)
    # It makes a pipe to look at an object, and takes any for a wrong one where no descriptor is left.
    add_compile_options(-fno-sanitize=vptr)
  endif()
  # GCC: -Wtsan reports every atomic_thread_fence, since TSan does not model fences. Where one stands,
  # the code beside it says why TSan need not see it.
  if(MEMPOOL_SANITIZE MATCHES thread AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(mempool_warnings INTERFACE -Wno-tsan)
  endif()
endif()
# The fuzz targets see which branches of the whole project they reach.
if(MEMPOOL_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# The headers that cost most to read, read once a target. Off under ccache, which by its defaults keeps
# nothing that was compiled with a precompiled header. clang-tidy compiles without them (script/lint),
# so an include that a file forgot is still found.
if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES ccache)
  set(mempool_pch_default OFF)
else()
  set(mempool_pch_default ON)
endif()
option(MEMPOOL_PCH "Precompile the heavy headers of others" ${mempool_pch_default})

# mempool_precompile(<target> <header>...)
function(mempool_precompile target)
  if(MEMPOOL_PCH)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()
