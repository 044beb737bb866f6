// The directory where one daemon keeps what it alone may decide by: its lock and the index of its
// pools' objects.
//
// Made by Listener at start, used by the named backing of each pool. In it: `pools`, the index,
// which everybody may read, and `private`, which nobody but the daemon's user enters: who holds the
// lock of that directory is the daemon. Never trusts a directory that somebody else could have
// written to. Errors say what to do.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "mempool/shm/words/pool_index.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

class RuntimeDirectory {
public:
    /// Makes the directory if there is none, checks that it is ours alone, takes its lock and reads
    /// the index. Throws std::runtime_error: it is not ours, or another mempoold works there.
    explicit RuntimeDirectory(std::string path);
    RuntimeDirectory(const RuntimeDirectory&) = delete;
    RuntimeDirectory& operator=(const RuntimeDirectory&) = delete;
    /// Lets go of the lock; all files stay.
    ~RuntimeDirectory() = default;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// Device and inode of `private`: whose lock it is that counts for a pool.
    [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> identity() const noexcept {
        return identity_;
    }

    [[nodiscard]] const mempool::shm::PoolIndex& index() const noexcept { return index_; }
    /// Changes the index by `change` and writes it; as it was if that fails. Throws
    /// std::system_error.
    template <typename Change>
    void update(Change change) {
        mempool::shm::PoolIndex next = index_;
        change(next);
        write(next);
        index_ = std::move(next);
    }

    /// Makes directory and index again where somebody removed them, and says so in the log;
    /// identity() is another one then. Throws as the constructor, and as update().
    void mend();

    /// Removes all that the daemon made there, and the directory if it made that; nothing if the
    /// index still knows a pool.
    void remove() noexcept;

private:
    bool open_directories();
    [[nodiscard]] bool is_in_place() const noexcept;
    void lock();
    void read();
    void write(const mempool::shm::PoolIndex& index) const;

    std::string path_;
    mempool::shm::UniqueFd directory_;
    mempool::shm::UniqueFd private_;  // has the lock
    std::pair<std::uint64_t, std::uint64_t> identity_;
    bool made_ = false;
    mempool::shm::PoolIndex index_;
};

/// Who holds an flock(2).
struct LockHolder {
    pid_t pid = 0;
    uid_t uid = 0;
};
/// The process that holds the write lock of that file, as far as /proc/locks shows it to us: not
/// one in a pid namespace that we don't see into.
std::optional<LockHolder> holder_of_lock(dev_t device, ino_t inode);

/// "uid N (NAME)".
std::string describe_user(uid_t uid);

}  // namespace mempoold
