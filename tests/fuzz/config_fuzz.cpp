// The parsers of the configuration: any text is a configuration or a ConfigError.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "daemon/config/config_file.hpp"
#include "daemon/config/pool_config.hpp"
#include "daemon/config/units.hpp"
#include "fuzz/input.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace {

// What is accepted must be written so that it is accepted again, and the same.
void parse_line(const std::string& text) {
    try {
        const std::string once = format_pool(mempoold::parse_pool(text, "fuzz"));
        if (format_pool(mempoold::parse_pool(once, "fuzz")) != once) {
            std::abort();
        }
    } catch (const mempoold::ConfigError&) {
    }
}

template <typename Parse>
void parse_value(Parse&& parse) {
    try {
        parse();
    } catch (const mempoold::ConfigError&) {
    }
}

void read_file(const std::string& text) {
    const mempool::shm::UniqueFd file{::memfd_create("fuzz", MFD_CLOEXEC)};
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        return;
    }
    try {
        mempoold::PoolConfigBuilder builder("fuzz", "fuzz");
        for (const auto& setting :
             mempoold::read_settings("/proc/self/fd/" + std::to_string(file.get()))) {
            parse_value([&] { builder.set(setting.key, setting.value); });
        }
        (void)format_pool(builder.finish());
    } catch (const mempoold::ConfigError&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    switch (text.empty() ? '\0' : text.front()) {
        case 'u':
            parse_value([&] { (void)mempoold::parse_size(text.substr(1)); });
            parse_value([&] { (void)mempoold::parse_factor(text.substr(1)); });
            parse_value([&] { (void)mempoold::parse_mode(text.substr(1)); });
            parse_value([&] { (void)mempoold::parse_watermark(text.substr(1)); });
            parse_value([&] { (void)mempoold::parse_list(text.substr(1)); });
            break;
        case 'f':
            read_file(text.substr(1));
            break;
        default:
            parse_line(text);
    }
    return 0;
}
