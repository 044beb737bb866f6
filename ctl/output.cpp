#include "output.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

namespace mempoolctl {

void Output::text(std::string_view text) {
    if (error_ == 0 && std::fwrite(text.data(), 1, text.size(), file_) != text.size()) {
        error_ = errno;
    }
}

void Output::json(const Json& value) {
    text(value.dump(2, ' ', false, Json::error_handler_t::replace));
    text("\n");
}

int Output::finish() {
    if (error_ == 0 && std::fflush(file_) != 0) {
        error_ = errno;
    }
    return error_;
}

bool wants_colour(std::FILE* file) {
    const char* const no_colour = std::getenv("NO_COLOR");
    const char* const terminal = std::getenv("TERM");
    return (no_colour == nullptr || *no_colour == '\0') && terminal != nullptr &&
           std::string_view(terminal) != "dumb" && ::isatty(::fileno(file)) == 1;
}

std::string to_line(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace mempoolctl
