// Where a command's answer goes: standard output, as text or JSON.
//
// Written by the one thread. A reader that went away (`| head`) is no error: what follows is thrown
// away. It never reports failures itself; finish() tells main.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

namespace mempoolctl {

/// JSON objects keep their keys in the order in which the commands set them.
using Json = nlohmann::ordered_json;

class Output {
public:
    /// Writes to `file`, which must outlive it. `colour`: escape sequences may be used.
    Output(std::FILE* file, bool colour) : file_(file), colour_(colour) {}

    void text(std::string_view text);
    /// One value, indented, with a final newline.
    void json(const Json& value);

    [[nodiscard]] bool colour() const { return colour_; }
    void no_colour() { colour_ = false; }
    /// Whether writing failed: the rest of a long answer need not be made.
    [[nodiscard]] bool broken() const { return error_ != 0; }
    /// Flushes; 0, or the errno of the first write that failed.
    [[nodiscard]] int finish();

private:
    std::FILE* file_;
    bool colour_;
    int error_ = 0;
};

/// Whether `file` is a terminal that shows colours to somebody who wants them: neither $NO_COLOR
/// nor TERM=dumb is set.
[[nodiscard]] bool wants_colour(std::FILE* file);

/// `value` on one line. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string to_line(const Json& value);

}  // namespace mempoolctl
