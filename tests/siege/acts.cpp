#include "siege/acts.hpp"

#include <string_view>

#include "siege/ledger.hpp"

namespace mempool_test {

bool is_kind(const Act& act, const std::string& kind) {
    const std::string_view name = act.name;
    return name == kind || name.substr(0, name.find(':')) == kind;
}

const std::vector<Act>& all_acts() {
    static const std::vector<Act> acts = [] {
        std::vector<Act> all;
        for (const auto part :
             {name_acts(), socket_acts(), descriptor_acts(), process_acts(), member_acts()}) {
            all.insert(all.end(), part.begin(), part.end());
        }
        all.resize(all.size() < kMostKinds ? all.size() : kMostKinds);
        return all;
    }();
    return acts;
}

}  // namespace mempool_test
