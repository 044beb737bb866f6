// The control socket's place: whose it is, how it is made, and that one daemon alone has it.
//
// Used by Daemon at start, at stop, and each second in between. The socket is systemd's, if it
// passes one, else our own file; in either case the lock of the runtime directory that goes with it
// is held.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "daemon/storage/fd_store.hpp"
#include "daemon/storage/runtime_directory.hpp"
#include "mempool/shm/words/unique_fd.hpp"

namespace mempoold {

class Listener {
public:
    /// Takes its socket from what systemd `passed` (the one named "control", or the only one), else
    /// binds `path`, or the default place if that is empty: there the directory is made. Throws
    /// std::runtime_error that says what to do.
    Listener(std::string path, FdStore::Descriptors passed);
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    /// Removes the socket's file if it was made here and still is ours.
    ~Listener();

    /// Non-blocking, listening, SOCK_SEQPACKET.
    [[nodiscard]] int socket() const noexcept { return socket_.get(); }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] RuntimeDirectory& runtime() noexcept { return *runtime_; }

    /// Makes again what somebody removed of the runtime directory and the socket's file, and says
    /// so in the log; true if socket() is another one now. Throws std::exception: it can't be made,
    /// and what() says what to do.
    bool mend();

private:
    void take_inherited(mempool::shm::UniqueFd passed);
    void bind_own();
    void open_to_all() const;
    void remember_file();
    bool mend_socket();
    [[nodiscard]] bool is_in_place() const noexcept;

    std::optional<RuntimeDirectory> runtime_;  // its lock is the last to go
    mempool::shm::UniqueFd socket_;
    std::string path_;
    bool own_ = false;
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

/// Where the socket is made when nothing says where: $RUNTIME_DIRECTORY, for root /run/mempoold,
/// else $XDG_RUNTIME_DIR/mempoold. Throws std::runtime_error if there is no such place.
std::string default_socket_place();

/// Where the lock and the index of the daemon at that socket are. Beside a socket that was asked
/// for, as SOCKET.d, so that daemons in one folder don't meet; else the directory of the default
/// place. `asked`: --socket or `socket` names it, and it was not passed by systemd.
std::string runtime_place(const std::string& socket, bool asked);

}  // namespace mempoold
