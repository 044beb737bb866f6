// What the daemon says on stderr, one line a message.
//
// Used by every part of the daemon, from any thread. Under systemd a line begins with `<N>`, the
// priority that journald takes from it; elsewhere with a time and a level. A thread of its own
// writes, so nobody who logs waits for the reader of stderr (a pager, a full pipe): lines that find
// no room in the queue are counted and dropped. Never throws for what it cannot write.
#pragma once

#include <fmt/core.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace mempoold {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

/// Writes to stderr as long as it lives, from a thread of its own. Before and after that, lines are
/// written by the caller, of level info and above unless said. Made by main(), once.
class LogThread {
public:
    /// Throws std::system_error if there can be no thread.
    explicit LogThread(LogLevel level);
    LogThread(const LogThread&) = delete;
    LogThread& operator=(const LogThread&) = delete;
    /// Waits until all is written, but for a second at most. If the reader stands still even then,
    /// what is left is lost, and what is logged later too.
    ~LogThread();
};

void set_log_level(LogLevel level);

/// Writes one line. Bytes in it that are no text (they may come from a peer or a file) are shown by
/// printable() of text.hpp.
void log_line(LogLevel level, std::string_view text);
/// As log_line() at level info, whatever the level set: for the line that says the daemon is ready.
void log_always(std::string_view text);

template <typename... Arguments>
void log_debug(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::kDebug, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <typename... Arguments>
void log_info(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::kInfo, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <typename... Arguments>
void log_warning(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::kWarning, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <typename... Arguments>
void log_error(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::kError, fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// Lets a few messages a period through and counts the rest, so that peers cannot flood the log.
/// One thread.
class LogRate {
public:
    using Clock = std::chrono::steady_clock;

    /// Whether to log now. `suppressed` gets how many were not since the last that was.
    bool allow(Clock::time_point now, std::uint64_t& suppressed);

private:
    static constexpr std::uint32_t kBurst = 20;
    static constexpr std::chrono::seconds kPeriod{10};

    Clock::time_point period_end_{};
    std::uint32_t used_ = 0;
    std::uint64_t suppressed_ = 0;
};

}  // namespace mempoold
