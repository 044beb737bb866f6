#include "mempool/error.hpp"

#include <string>

namespace mempool {
namespace {

class Category final : public std::error_category {
public:
    [[nodiscard]] const char* name() const noexcept override { return "mempool"; }

    [[nodiscard]] std::string message(int value) const override {
        switch (static_cast<Errc>(value)) {
            case Errc::kExhausted:
                return "no slot is free: return some, or let the pool grow (max_slots)";
            case Errc::kTimedOut:
                return "no slot became free in time: return some, or let the pool grow (max_slots)";
            case Errc::kStale:
                return "the slot was returned or reclaimed since its handle was made, "
                       "or the handle was never given out";
            case Errc::kNoSuchSlot:
                return "the handle names no slot of this pool: it comes from another pool, or was "
                       "damaged on its way";
            case Errc::kEmptySlot:
                return "the Slot object holds no slot";
            case Errc::kForked:
                return "this client belongs to the parent process: attach again after fork()";
            case Errc::kSegmentUnavailable:
                return "a segment that was added to the pool cannot be mapped: start mempoold, "
                       "give this process access to /dev/shm, "
                       "or raise its limit of descriptors (ulimit -n)";
            case Errc::kPoolDamaged:
                return "the pool's shared records were overwritten: see mempoolctl audit";
            case Errc::kClosed:
                return "close() was called for this client";
            case Errc::kOverQuota:
                return "this client holds as many slots as the pool's quota allows: return some, "
                       "or raise quota (a reload of mempoold applies it)";
            case Errc::kEnded:
                return "this attachment was ended (mempoolctl reclaim --client): attach again";
        }
        return value == 0 ? "success" : "unknown error " + std::to_string(value);
    }
};

/// Never destroyed: a Client may be used by a destructor that runs at exit.
union Immortal {
    constexpr Immortal() noexcept : value() {}
    Immortal(const Immortal&) = delete;
    Immortal& operator=(const Immortal&) = delete;
    ~Immortal() {}  // NOLINT(modernize-use-equals-default): a default one would be deleted
    Category value;
};
constinit const Immortal kCategory;

}  // namespace

const std::error_category& error_category() noexcept { return kCategory.value; }

Error::~Error() = default;

std::string Error::reason() const {
    std::string text = what();
    if (const std::string code = ": " + this->code().message(); text.ends_with(code)) {
        text.resize(text.size() - code.size());
    }
    return text;
}

}  // namespace mempool
