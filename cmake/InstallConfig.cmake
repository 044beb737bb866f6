# Run by `cmake --install`: puts the configuration in place without touching one that was edited, and says
# what else the service needs. `mempool_config_source` is the file, `mempool_config_dir` the destination.
cmake_path(ABSOLUTE_PATH mempool_config_dir BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}")
set(installed "$ENV{DESTDIR}${mempool_config_dir}/mempoold.conf")
set(name mempoold.conf)
if(EXISTS "${installed}")
  file(SHA256 "${installed}" there)
  file(SHA256 "${mempool_config_source}" new)
  if(NOT there STREQUAL new)
    set(name mempoold.conf.new)
    message(STATUS "Kept: ${installed}, which differs from this release's; see ${name} beside it")
  endif()
endif()
# Heeds DESTDIR itself.
file(INSTALL DESTINATION "${mempool_config_dir}" TYPE FILE RENAME ${name} FILES "${mempool_config_source}")

if("$ENV{DESTDIR}" STREQUAL "")
  message(STATUS "To run mempoold as a service, as root: ldconfig; systemd-sysusers; "
          "systemd-tmpfiles --create mempool.conf; systemctl daemon-reload; "
          "systemctl enable --now mempoold.socket mempoold.service")
endif()
