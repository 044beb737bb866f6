// mempoolctl segments: what a pool's memory consists of.
#include <mempool/inspect.hpp>

#include "command.hpp"
#include "output.hpp"
#include "pools.hpp"
#include "table.hpp"
#include "text.hpp"

namespace mempoolctl {
namespace {

using mempool::SegmentInfo;

Exit run_segments(const Invocation& invocation, Output& output) {
    const std::string& pool = invocation.arguments.front();
    const mempool::Inspector inspector = mempool::Inspector::open(pool, invocation.attach);
    const std::vector<SegmentInfo> segments = inspector.segments();
    const bool served = note_whether_served(invocation, inspector);
    if (invocation.json) {
        Json list = Json::array();
        for (const SegmentInfo& segment : segments) {
            list.push_back({{"number", segment.number},
                            {"object", segment.object},
                            {"first_index", segment.first_index},
                            {"slots", segment.slots},
                            {"file_bytes", segment.file_bytes},
                            {"added_at", segment.added_at},
                            {"age_seconds", age_of(segment.added_at)}});
        }
        output.json({{"pool", pool}, {"served", served}, {"segments", std::move(list)}});
        return Exit::kOk;
    }
    const Align right = Align::kRight;
    Table table({{"SEGMENT", right},
                 {"OBJECT"},
                 {"FIRST SLOT", right},
                 {"SLOTS", right},
                 {"FILE SIZE", right},
                 {"AGE", right},
                 {"SINCE"}});
    for (const SegmentInfo& segment : segments) {
        table.add({{std::to_string(segment.number)},
                   {segment.object},
                   {std::to_string(segment.first_index)},
                   {std::to_string(segment.slots)},
                   {format_bytes(segment.file_bytes)},
                   {format_duration(age_of(segment.added_at))},
                   {format_time(segment.added_at)}});
    }
    output.text(table.render(output.colour()));
    return Exit::kOk;
}

}  // namespace

const Command kSegments{
    .name = "segments",
    .arguments = "POOL",
    .summary = "List the segments a pool has grown to",
    .details = "",
    .least_arguments = 1,
    .most_arguments = 1,
    .add_options = nullptr,
    .run = run_segments,
};

}  // namespace mempoolctl
