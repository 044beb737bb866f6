// A mempoold of the measuring program's own.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <mempool/client.hpp>
#include <string>

namespace bench {

/// A mempoold that serves one pool; gone, with the pool, at the end, or when this process dies.
class Daemon {
public:
    /// Returns when it is ready. The pool's name begins with `stem`. `keys`: more of the pool's
    /// keys, as for mempoold --pool, each with a comma before it. Throws std::runtime_error if it
    /// doesn't start.
    Daemon(const std::string& stem, std::size_t slot_bytes, std::size_t slots,
           const std::string& keys = "");
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon();

    [[nodiscard]] const std::string& pool() const { return pool_; }
    [[nodiscard]] mempool::AttachOptions options() const { return {.socket = socket()}; }
    /// Attaches the calling process to the pool.
    [[nodiscard]] mempool::Client attach() const {
        return mempool::Client::attach(pool_, options());
    }

private:
    [[nodiscard]] std::string socket() const { return directory_ + "/mempoold.sock"; }
    [[nodiscard]] std::string log_path() const { return directory_ + "/log"; }
    [[nodiscard]] std::string log() const;

    std::string pool_;
    std::string directory_;
    pid_t parent_;
    pid_t pid_ = -1;
};

}  // namespace bench
