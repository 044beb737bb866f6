// Telling systemd how the daemon is (sd_notify(3)). Nothing happens where nobody asked for it.
//
// Used by Daemon only.
#pragma once

#include <chrono>
#include <string>

namespace mempoold {

/// `status` is for people, in systemctl status. It is cut to what systemd takes: of a longer
/// message it would believe nothing, not even that the daemon is ready.
void notify_ready(const std::string& status);
void notify_status(const std::string& status);
void notify_reloading();
void notify_stopping();
/// A start or a reload goes on: systemd is to wait a little longer for it. Cheap to call often.
void notify_busy();
void notify_watchdog();

/// Sends `message` (sd_notify(3)) with descriptor `fd` unless it is -1: 0 or errno. Never waits: a
/// manager that does not read costs EAGAIN, and nothing else. 0 where nobody listens.
int notify_manager(const std::string& message, int fd = -1) noexcept;

/// How often notify_watchdog() must be called at least; zero: nobody watches.
std::chrono::microseconds watchdog_period();

}  // namespace mempoold
