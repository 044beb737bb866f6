// Uses the installed library just far enough to be sure that it links: attaching fails without a
// daemon, and the error names the socket.
#include <cstdlib>
#include <iostream>
#include <mempool/client.hpp>
#include <string>
#include <system_error>

int main() {
    const char* const socket = std::getenv("MEMPOOL_SOCKET");
    if (socket == nullptr) {
        std::cerr << "MEMPOOL_SOCKET is not set\n";
        return 2;
    }
    try {
        auto client = mempool::Client::attach("frames");
        std::cerr << "attached without a daemon\n";
    } catch (const std::system_error& error) {
        if (std::string(error.what()).find(socket) != std::string::npos) {
            return 0;
        }
        std::cerr << "the message does not name " << socket << ": " << error.what() << '\n';
    }
    return 1;
}
