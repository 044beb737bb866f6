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
void notify_watchdog();

/// How often notify_watchdog() must be called at least; zero: nobody watches.
std::chrono::microseconds watchdog_period();

}  // namespace mempoold
