#include "daemon/base/notify.hpp"

#include <systemd/sd-daemon.h>

#include <cstddef>
#include <cstdint>
#include <ctime>

#include "daemon/base/text.hpp"

namespace mempoold {

namespace {

/// systemd reads PIPE_BUF bytes of a message.
constexpr std::size_t kMostStatus = 2048;

std::string status_line(const std::string& status) {
    return "STATUS=" + shortened(printable(status), kMostStatus);
}

}  // namespace

void notify_ready(const std::string& status) {
    ::sd_notify(0, ("READY=1\n" + status_line(status)).c_str());
}

void notify_status(const std::string& status) { ::sd_notify(0, status_line(status).c_str()); }

void notify_reloading() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const std::int64_t usec = std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
    ::sd_notify(0, ("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(usec)).c_str());
}

void notify_stopping() { ::sd_notify(0, "STOPPING=1\nSTATUS=stopping; the pools stay"); }

void notify_watchdog() { ::sd_notify(0, "WATCHDOG=1"); }

std::chrono::microseconds watchdog_period() {
    std::uint64_t usec = 0;
    if (::sd_watchdog_enabled(0, &usec) <= 0) {
        return {};
    }
    return std::chrono::microseconds(usec);
}

}  // namespace mempoold
