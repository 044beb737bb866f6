// A set-uid program that attaches to the pool of its argument wherever the library looks by itself.
//
// Started by surroundings_test as another user, who names a daemon of his own in the environment.
// 0: it did not attach; 1: it did; 77: set-uid has no effect here.
#include <sys/auxv.h>

#include <mempool/client.hpp>
#include <system_error>

int main(int count, char** arguments) {
    if (count != 2 || ::getauxval(AT_SECURE) == 0) {
        return 77;
    }
    try {
        const mempool::Client client = mempool::Client::attach(arguments[1]);
        return 1;
    } catch (const std::system_error&) {
        return 0;
    }
}
