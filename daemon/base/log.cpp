#include "daemon/base/log.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace mempoold {

namespace {

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

std::shared_ptr<spdlog::logger> make_logger() {
    auto logger = std::make_shared<spdlog::logger>(
        "mempoold", std::make_shared<spdlog::sinks::stderr_sink_st>());
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    if (std::getenv("JOURNAL_STREAM") != nullptr || std::getenv("NOTIFY_SOCKET") != nullptr) {
        formatter->add_flag<Priority>('*').set_pattern("<%*>%v");
    } else {
        formatter->set_pattern("%Y-%m-%d %H:%M:%S.%e %-7l %v");
    }
    logger->set_formatter(std::move(formatter));
    logger->flush_on(spdlog::level::trace);
    logger->set_error_handler([](const std::string& /*what*/) {});
    return logger;
}

spdlog::logger& logger() {
    static const std::shared_ptr<spdlog::logger> kInstance = make_logger();
    return *kInstance;
}

std::string printable(std::string_view text) {
    std::string line(text);
    std::replace_if(
        line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    return line;
}

}  // namespace

void start_log(LogLevel level) { set_log_level(level); }

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }

void log_line(LogLevel level, std::string_view text) {
    const std::string line = printable(text);
    logger().log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

void log_always(std::string_view text) {
    const spdlog::level::level_enum level = logger().level();
    logger().set_level(spdlog::level::info);
    log_line(LogLevel::kInfo, text);
    logger().set_level(level);
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
