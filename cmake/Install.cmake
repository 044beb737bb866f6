# What `cmake --install` puts where, for every target and file of the project.
include(CMakePackageConfigHelpers)

set(mempool_config_dir ${CMAKE_INSTALL_SYSCONFDIR}/mempoold)
# systemd looks here whatever the architecture, so not CMAKE_INSTALL_LIBDIR.
set(mempool_systemd_dir lib/systemd/system)

# The library, and what find_package and pkg-config read. Inline functions of the public headers
# need those below shm/ too, so all are installed.
install(DIRECTORY include/mempool DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
install(TARGETS mempool_shm mempool mempool_static EXPORT mempoolTargets)
set(mempool_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mempool)
install(EXPORT mempoolTargets NAMESPACE mempool:: DESTINATION ${mempool_cmake_dir})
configure_package_config_file(cmake/mempoolConfig.cmake.in mempoolConfig.cmake
                              INSTALL_DESTINATION ${mempool_cmake_dir})
# Before 1.0 a new minor version may change the API.
write_basic_package_version_file(mempoolConfigVersion.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/mempool.pc.in mempool.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mempoolConfig.cmake
              ${PROJECT_BINARY_DIR}/mempoolConfigVersion.cmake DESTINATION ${mempool_cmake_dir})
install(FILES ${PROJECT_BINARY_DIR}/mempool.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The daemon and the tool.
install(TARGETS mempoold RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS mempoolctl)
configure_file(systemd/mempoold.service.in systemd/mempoold.service @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/systemd/mempoold.service systemd/mempoold.socket
        DESTINATION ${mempool_systemd_dir})
install(FILES systemd/mempool.sysusers.conf DESTINATION lib/sysusers.d RENAME mempool.conf)
install(FILES systemd/mempool.tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME mempool.conf)
install(DIRECTORY DESTINATION ${mempool_config_dir}/pools.d)
install(CODE "set(mempool_config_source \"${PROJECT_SOURCE_DIR}/systemd/mempoold.conf\")
set(mempool_config_dir \"${mempool_config_dir}\")")
install(SCRIPT cmake/InstallConfig.cmake)

# Manual pages, written for scdoc: docs/man/NAME.SECTION.scd.
file(GLOB man_sources CONFIGURE_DEPENDS docs/man/*.scd)
find_program(SCDOC scdoc)
if(man_sources AND NOT SCDOC)
  message(STATUS "scdoc not found: no manual pages")
  set(man_sources)
endif()
foreach(source ${man_sources})
  get_filename_component(page ${source} NAME_WLE)
  string(REGEX MATCH "[0-9]$" section ${page})
  add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/man/${page}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/man
    COMMAND ${SCDOC} <${source} >${PROJECT_BINARY_DIR}/man/${page}
    DEPENDS ${source})
  list(APPEND man_pages ${PROJECT_BINARY_DIR}/man/${page})
  install(FILES ${PROJECT_BINARY_DIR}/man/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
add_custom_target(mempool_man ALL DEPENDS ${man_pages})
