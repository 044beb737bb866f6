// The fixtures of tests that step a child: skipped where ptrace is refused.
#pragma once

#include <gtest/gtest.h>

#include "crash/stepper.hpp"

namespace mempool::test {

class Stepped : public testing::Test {
protected:
    void SetUp() override {
        if (!can_trace()) {
            GTEST_SKIP() << "ptrace is not permitted here";
        }
    }
};

template <typename Param>
class SteppedWith : public Stepped, public testing::WithParamInterface<Param> {};

}  // namespace mempool::test
