#include "daemon/base/log.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "daemon/base/line_queue.hpp"
#include "daemon/base/text.hpp"

namespace mempoold {

namespace {

constexpr std::chrono::seconds kLastWords{1};

spdlog::level::level_enum to_spdlog(LogLevel level) {
    switch (level) {
        case LogLevel::kDebug:
            return spdlog::level::debug;
        case LogLevel::kInfo:
            return spdlog::level::info;
        case LogLevel::kWarning:
            return spdlog::level::warn;
        case LogLevel::kError:
            break;
    }
    return spdlog::level::err;
}

/// The digit of sd-daemon(3)'s `<N>` prefix.
class Priority : public spdlog::custom_flag_formatter {
public:
    void format(const spdlog::details::log_msg& message, const std::tm& /*time*/,
                spdlog::memory_buf_t& to) override {
        switch (message.level) {
            case spdlog::level::trace:
            case spdlog::level::debug:
                to.push_back('7');
                break;
            case spdlog::level::info:
                to.push_back('6');
                break;
            case spdlog::level::warn:
                to.push_back('4');
                break;
            default:
                to.push_back('3');
        }
    }
    [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override {
        return spdlog::details::make_unique<Priority>();
    }
};

std::unique_ptr<spdlog::formatter> make_formatter() {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    if (::secure_getenv("JOURNAL_STREAM") != nullptr ||
        ::secure_getenv("NOTIFY_SOCKET") != nullptr) {
        formatter->add_flag<Priority>('*').set_pattern("<%*>%v");
    } else {
        formatter->set_pattern("%Y-%m-%d %H:%M:%S.%e %-7l %v");
    }
    return formatter;
}

std::string format_line(spdlog::formatter& formatter, const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter.format(message, line);
    return {line.data(), line.size()};
}

std::string lost_lines(std::uint64_t count) {
    const std::string text = fmt::format(
        "{} lines of this log were lost here: whatever reads it did not keep up", count);
    return format_line(*make_formatter(), {"mempoold", spdlog::level::warn, text});
}

// Leaked, both: the queue's thread outlives whatever ends before the process does.
LineQueue& queue() {
    static auto* const kInstance = new LineQueue(STDERR_FILENO, lost_lines);
    return *kInstance;
}

class QueueSink : public spdlog::sinks::base_sink<std::mutex> {
    void sink_it_(const spdlog::details::log_msg& message) override {
        queue().push(format_line(*formatter_, message));
    }
    void flush_() override {}
};

spdlog::logger& logger() {
    static auto* const kInstance = [] {
        auto* made = new spdlog::logger("mempoold", std::make_shared<QueueSink>());
        made->set_formatter(make_formatter());
        made->set_error_handler([](const std::string& /*what*/) {});
        return made;
    }();
    return *kInstance;
}

}  // namespace

LogThread::LogThread(LogLevel level) {
    set_log_level(level);
    queue().start();
}

LogThread::~LogThread() { queue().drain(kLastWords); }

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }

void log_line(LogLevel level, std::string_view text) {
    const std::string line = printable(text);
    logger().log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

void log_always(std::string_view text) {
    const std::string line = printable(text);
    logger().sinks().front()->log({"mempoold", spdlog::level::info, line});
}

bool LogRate::allow(Clock::time_point now, std::uint64_t& suppressed) {
    if (now >= period_end_) {
        period_end_ = now + kPeriod;
        used_ = 0;
    }
    if (used_ >= kBurst) {
        ++suppressed_;
        return false;
    }
    ++used_;
    suppressed = std::exchange(suppressed_, 0);
    return true;
}

}  // namespace mempoold
