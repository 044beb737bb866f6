// Telling systemd how the daemon is (sd_notify(3)). Nothing happens where nobody asked for it.
//
// Used by Daemon only.
#pragma once

#include <chrono>
#include <string>

namespace mempoold {

void notify_ready(const std::string& status);
void notify_reloading();
void notify_stopping();
void notify_watchdog();

/// How often notify_watchdog() must be called at least; zero: nobody watches.
std::chrono::microseconds watchdog_period();

}  // namespace mempoold
