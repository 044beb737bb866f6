# mempool_warnings: every target of this project links it PRIVATE; one that is installed links
# $<BUILD_INTERFACE:mempool_warnings>, since the target itself is not.
add_library(mempool_warnings INTERFACE)
target_compile_options(mempool_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow
  $<$<BOOL:${MEMPOOL_WERROR}>:-Werror>)

# For the whole directory tree and not by a target: a process is sanitized as a whole or not at all.
if(MEMPOOL_SANITIZE)
  add_compile_options(-fsanitize=${MEMPOOL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MEMPOOL_SANITIZE})
  # GCC: -Wtsan reports every atomic_thread_fence, since TSan does not model fences. Where one stands,
  # the code beside it says why TSan need not see it.
  if(MEMPOOL_SANITIZE MATCHES thread AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(mempool_warnings INTERFACE -Wno-tsan)
  endif()
endif()
