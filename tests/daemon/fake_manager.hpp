// A service manager as far as a daemon sees one: a socket that keeps what it is given.
//
// Sets NOTIFY_SOCKET for this process as long as it lives. Not thread-safe.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "daemon/storage/fd_store.hpp"
#include "support/daemon_process.hpp"

namespace mempoold {

class FakeManager {
public:
    FakeManager() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string path = directory_.path() + "/notify";
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
            0) {
            throw std::system_error(errno, std::generic_category(), "bind");
        }
        ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    }
    FakeManager(const FakeManager&) = delete;
    FakeManager& operator=(const FakeManager&) = delete;
    ~FakeManager() { ::unsetenv("NOTIFY_SOCKET"); }

    /// What it would pass to the next daemon: all that it was given and not told to let go.
    FdStore::Descriptors passed() {
        receive();
        FdStore::Descriptors copies;
        for (const auto& [name, fd] : kept_) {
            copies.emplace_back(name, mempool::shm::UniqueFd{::dup(fd.get())});
        }
        return copies;
    }
    /// The last status it was told; empty if none.
    std::string status() {
        receive();
        return status_;
    }
    /// How often it was asked to wait longer for a start or a reload.
    int extensions() {
        receive();
        return extensions_;
    }
    std::vector<std::string> names() {
        std::vector<std::string> all;
        for (const auto& [name, fd] : passed()) {
            all.push_back(name);
        }
        return all;
    }

private:
    void receive() {
        for (;;) {
            std::array<char, 4096> text{};
            alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control{};
            iovec part{text.data(), text.size() - 1};
            msghdr header{};
            header.msg_iov = &part;
            header.msg_iovlen = 1;
            header.msg_control = control.data();
            header.msg_controllen = control.size();
            if (::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC) < 0) {
                return;
            }
            int fd = -1;
            if (const cmsghdr* c = CMSG_FIRSTHDR(&header);
                c != nullptr && c->cmsg_type == SCM_RIGHTS) {
                std::memcpy(&fd, CMSG_DATA(c), sizeof(fd));
            }
            handle(text.data(), mempool::shm::UniqueFd{fd});
        }
    }
    void handle(const std::string& message, mempool::shm::UniqueFd fd) {
        if (const std::size_t status = message.find("STATUS="); status != std::string::npos) {
            status_ = message.substr(status + 7, message.find('\n', status) - status - 7);
        }
        extensions_ += message.starts_with("EXTEND_TIMEOUT_USEC=") ? 1 : 0;
        const std::size_t at = message.find("FDNAME=");
        if (at == std::string::npos) {
            return;
        }
        const std::string name = message.substr(at + 7, message.find('\n', at) - at - 7);
        if (message.find("FDSTOREREMOVE=1") != std::string::npos) {
            std::erase_if(kept_, [&](const auto& item) { return item.first == name; });
        } else if (fd) {
            kept_.emplace_back(name, std::move(fd));
        }
    }

    mempool_test::TemporaryDirectory directory_;
    mempool::shm::UniqueFd socket_;
    FdStore::Descriptors kept_;
    std::string status_;
    int extensions_ = 0;
};

}  // namespace mempoold
