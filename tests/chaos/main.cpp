// mempool_chaos: the test, its members, and the long form of it; see --help.
#include <gtest/gtest.h>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "chaos/chaos.hpp"
#include "chaos/member.hpp"
#include "chaos/options.hpp"

namespace mempool_test {
namespace {

ChaosOptions given;

TEST(Chaos, LeavesEverySlotFreeAndNoneWithTwoHolders) {
    Chaos chaos(given);
    chaos.run();
}

int run_member(const std::vector<std::string>& arguments) {
    try {
        return live_as_member(setup_of(arguments));
    } catch (const std::exception& e) {
        std::cerr << "member: " << e.what() << '\n';
        return 1;
    }
}

}  // namespace
}  // namespace mempool_test

int main(int argc, char** argv) {
    if (argc > 1 && std::string(argv[1]) == mempool_test::kMemberFlag) {
        return mempool_test::run_member({argv + 1, argv + argc});
    }
    testing::InitGoogleTest(&argc, argv);
    const auto options = mempool_test::parse_chaos_options({argv + 1, argv + argc});
    if (!options) {
        return 2;
    }
    mempool_test::given = *options;
    return RUN_ALL_TESTS();
}
